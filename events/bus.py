"""The connection to NATS that everything here uses."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.client import Client

from events.subjects import STREAM

log = logging.getLogger("heirloom.bus")

COMMIT = f"$JS.ACK.{STREAM}.".encode()
"""How the reply subject begins of a commit that a consumer hands out."""


class Connection(Client):
    """A NATS connection that one malformed message cannot end.

    nats-py decodes subjects and headers inside its read loop, and an undecodable byte there ends the loop for good:
    any client allowed to publish one request could silence a whole replica. Such a message is dropped here, alone.
    """

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if reply.startswith(COMMIT):
            headers = b""  # what it was appended with is not read here, and costs a third of all reading
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except (UnicodeDecodeError, ValueError, IndexError) as error:
            log.warning("dropped a malformed message", extra={"bytes": len(data), "error": type(error).__name__})


async def connect(
    url: str,
    name: str,
    *,
    inbox_prefix: str = "_INBOX",
    patient: bool = True,
    on_change: Callable[[str], Awaitable[None]] | None = None,
) -> Connection:
    """Connect to `url`, credentials included; `name` is what the broker's monitoring shows.

    `patient` connections wait for a broker that comes and goes, for ever; others raise what nats-py raises at the
    first attempt. `on_change` hears `disconnected`, `reconnected` and `closed`.
    """

    def changed(what: str) -> Callable[[], Awaitable[None]]:
        async def report() -> None:
            log.info("connection %s", what, extra={"connection": name})
            if on_change is not None:
                await on_change(what)

        return report

    async def failed(error: Exception) -> None:
        log.info("connection trouble: %s", type(error).__name__, extra={"connection": name})

    options: dict[str, Any] = {
        "name": name,
        "inbox_prefix": inbox_prefix,
        "error_cb": failed,
        "disconnected_cb": changed("disconnected"),
        "reconnected_cb": changed("reconnected"),
        "closed_cb": changed("closed"),
        "reconnect_time_wait": 0.1,
        "max_reconnect_attempts": -1 if patient else 1,
        "allow_reconnect": patient,
        # what cannot be sent now is refused now: a request that waits for a broker to return is answered too late
        "pending_size": 0,
        # subjects are made here of checked parts, or come from the broker, which has checked them
        "skip_subject_validation": True,
        "connect_timeout": 2,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "drain_timeout": 10,
    }
    connection = Connection()
    await connection.connect(url, **options)
    return connection
