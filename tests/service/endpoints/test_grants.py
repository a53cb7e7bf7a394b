"""The grant types of the token endpoint."""

from typing import get_args

from events.aggregates.settings import GrantType
from service.endpoints.token import GRANTS


def test_every_grant_type_that_a_client_may_register_is_answered() -> None:
    """And no other one: RFC 6749 §5.2 has `unsupported_grant_type` for those."""
    assert GRANTS.keys() == set(get_args(GrantType))
