"""A role of the tests' own in the log's account that may do anything; the service has no such role."""

from heirloom.broker.roles import LOG_ACCOUNT, Role

WITNESS = "witness"
ANYTHING = Role(LOG_ACCOUNT, publish=(">",), subscribe=(">",))
