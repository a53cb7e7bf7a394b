"""What anyone may know about an issuer, however many clients it has."""

from typing import cast

import msgspec

from events.client import ClientState
from events.settings import ClientSettings
from events.stored import Stored
from service.endpoints.public import MAX_SCOPES, metadata_of
from service.keyring import Keyring
from service.registry import Client, Tenant


def with_scopes(*scopes: str) -> Tenant:
    """A tenant that has a client for each scope, of as many values as it likes."""
    tenant = Tenant("acme", Keyring({1: b"k" * 32}))
    for number, scope in enumerate(scopes):
        settings = ClientSettings(scope=scope)
        state, stored = ClientState(settings), Stored(number + 1, f"tokens.acme.client.c{number}", b"")
        tenant.clients[f"c{number}"] = Client(f"c{number}", state, tenant.rules_of(settings), stored)
    return tenant


def test_scopes_are_those_of_all_clients() -> None:
    """Each once, in order."""
    assert metadata_of(with_scopes("read write", "admin read", ""))["scopes_supported"] == ["admin", "read", "write"]


def test_more_scopes_than_are_of_use_are_left_out() -> None:
    """RFC 8414 §2 lets them; all else is told, in a message that the broker takes."""
    few = with_scopes("read")
    many = with_scopes(*(f"{number:01000}" for number in range(1100)))
    told = metadata_of(many)
    expected = metadata_of(few)
    del expected["scopes_supported"]
    assert told == expected
    most = with_scopes(*(f"{number:064}" for number in range(MAX_SCOPES // 64)))
    assert len(cast("list[str]", metadata_of(most)["scopes_supported"])) == MAX_SCOPES // 64
    assert len(msgspec.json.encode(metadata_of(most))) < 2 * MAX_SCOPES
