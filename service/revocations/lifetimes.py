"""How long access tokens of a client may live, by the log: entries of the feed are needed for so long."""

from events.aggregates import aggregate_names
from events.aggregates.aggregate_names import Aggregate
from events.bounded_map import BoundedMap
from events.log.log import Log
from service.revocations.stream import DEFAULT_LIFETIME

MAX_KNOWN = 10_000
"""How many settings are remembered; the others are read again."""


class Lifetimes:
    """Reads settings from the log, once until `forget`."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: BoundedMap[str, int] = BoundedMap(MAX_KNOWN)

    async def longest(self, tenant: str, client_id: str) -> int:
        """The longest lifetime (seconds) of any access token that the client was ever given. Raises `Unavailable`.

        It bounds those of exchanged tokens too: they outlive neither the settings of their holder nor the tokens that
        they came of.
        """
        of_tenant = await self._of(aggregate_names.tenant(tenant))
        return max(DEFAULT_LIFETIME, of_tenant, await self._of(aggregate_names.client(tenant, client_id)))

    def forget(self, subject: str) -> None:
        """Read the settings on that subject again when they are needed: they have changed."""
        self._known.pop(subject, None)

    async def _of(self, aggregate: Aggregate) -> int:
        if (known := self._known.get(aggregate.live)) is None:
            commit = (await self._log.head(aggregate)).commit
            state = None if commit is None else commit.state
            known = 0 if state is None else max(state.settings.access_token_ttl or 0, state.longest_ttl or 0)
            self._known[aggregate.live] = known
        return known
