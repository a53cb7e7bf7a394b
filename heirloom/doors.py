"""The doors of a broker, tried before the service serves: what a stranger may do there (CONTRACT §7, docs/security.md).

A broker answers what is not allowed at once and in order, so after a ping everything that it has not refused is open.
Nothing that is tried does anything where it is open: no stream takes it, and no service listens for it.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from nats.errors import Error as NatsError
from nats.protocol.parser import PERMISSIONS_ERR

from events import bus
from events.bus import Connection
from heirloom.credentials import Credentials
from heirloom.roles import ROLES, SHOWN, inbox
from heirloom.running import host_of
from service.connecting import DOORS, DOORS_INBOX
from service.client_password import client_password

log = logging.getLogger("heirloom.replica")

PROMPT_SECONDS = 5.0
OF_NO_STREAM = {"Nats-Expected-Stream": "heirloom-doors"}
"""JetStream refuses what expects to be stored in a stream of another name."""
PUBLISH = {
    "tokens.>": "tokens.doors.family.doors.live",
    "tokens.checkpoint": "tokens.checkpoint",
    "admin.>": "admin.doors.doors.try",
    "$JS.API.>": "$JS.API.STREAM.NAMES",
    "$JS.API.CONSUMER.CREATE.>": "$JS.API.CONSUMER.CREATE.DOORS.doors",
    "another client's requests": "oauth.doors.client.doors.try",
    "another's inbox": "_INBOX.doors.doors",
}
"""What no stranger may publish to, and the subject on which it is tried."""
SUBSCRIBE = {
    "admin.>": "admin.>",
    "oauth.>": "oauth.>",
    "tokens.>": "tokens.>",
    "$JS.API.>": "$JS.API.>",
    "another's inbox": "_INBOX.>",
}


class OpenDoors(Exception):
    """Somebody may do on this broker what is the service's alone, or another's."""

    def __init__(self, host: str, found: list[str]) -> None:
        super().__init__(
            f"the broker at {host} is open: " + "; ".join(found) + ". "
            "`heirloom broker-config` writes a configuration that shuts it; --insecure serves there all the same"
        )


class _Stranger(NamedTuple):
    """Who tries, in words, and with what. `publish` are the subjects that are his by right."""

    who: str
    user: str | None = None
    password: str | None = None
    inbox: str = "_INBOX"
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


async def try_doors(url: str, known: Credentials | None) -> None:
    """Try every server of `url`. Raises `OpenDoors`, and what `bus.connect` raises of a broker that is too old.

    With the credentials that the service has made itself, `known`, it tries them all; the service must let clients in
    by then. On another broker it knows nobody's, and tries with none and with wrong ones.
    """
    strangers = [
        _Stranger("anybody, without credentials,"),
        _Stranger("anybody, with a made-up user and password,", f"doors-{secrets.token_hex(4)}", secrets.token_hex(16)),
        *(_of_roles(known) if known is not None else ()),
    ]
    for host in host_of(url).split(","):
        scheme = "tls" if url.startswith("tls://") else "nats"
        found = await asyncio.gather(*(_tried(scheme, host, stranger) for stranger in strangers))
        if opened := [line for lines in found for line in lines]:
            raise OpenDoors(host, opened)


def _of_roles(known: Credentials) -> Iterable[_Stranger]:
    for name in SHOWN:
        role = ROLES[name]
        yield _Stranger(f"the role {name}", name, known.passwords[name], inbox(name), role.publish, role.subscribe)
    yield _Stranger("a client", DOORS, client_password(known.client_secret_key, *DOORS.split(".")), DOORS_INBOX)


async def _tried(scheme: str, host: str, stranger: _Stranger) -> list[str]:
    """What is open to that stranger there, in words."""
    who = f"{stranger.user}:{stranger.password}@" if stranger.user is not None else ""
    refused: list[str] = []
    try:
        async with asyncio.timeout(PROMPT_SECONDS):
            connection = await bus.connect(
                f"{scheme}://{who}{host}", "heirloom doors", inbox_prefix=stranger.inbox, patient=False
            )
            try:
                connection.when_denied = refused.append
                await _try(connection, stranger)
            finally:
                await connection.close()
    except (NatsError, OSError, TimeoutError):
        return []  # not let in
    return _open_to(stranger, refused)
