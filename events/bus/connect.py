"""How a connection to the broker is opened: servers, options, and whom to trust over TLS."""

import logging
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from nats.errors import Error as NatsError

from events.bus.broker_version import BrokerTooOld
from events.bus.connection import Connection

log = logging.getLogger("heirloom.bus")

PINNED_CERTIFICATE, SHOWN_KEY = "HEIRLOOM_TLS_CERT", "HEIRLOOM_TLS_KEY"
"""In the environment: the file of the only certificate to accept from the broker, whatever its name and issuer; and the
file of its key, with which the client presents the same certificate to a broker that requires one."""


async def connect(  # noqa: PLR0913  # a connection's options, each by its name
    url: str,
    name: str,
    *,
    inbox_prefix: str = "_INBOX",
    nkey_seed: str | None = None,
    patient: bool = True,
    echo: bool = True,
    on_change: Callable[[str], Awaitable[None]] | None = None,
) -> Connection:
    """Connect to `url`, which may contain credentials, or to any server of a cluster, separated by commas.

    With an `nkey_seed` the connection authenticates by signing the broker's nonce. `name` appears in the broker's
    monitoring. For `tls://` the environment (`PINNED_CERTIFICATE`) or the system decides whom to trust.
    A `patient` connection reconnects for ever; any other raises nats-py's error for the last of its servers. Both raise
    `BrokerTooOld` if all servers are too old, and another error if none of the remaining ones accepts.
    Without `echo` a connection does not receive what it publishes itself.
    `on_change` receives `disconnected`, `reconnected` and `closed`.
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
        "nkeys_seed_str": nkey_seed,
        "error_cb": failed,
        "disconnected_cb": changed("disconnected"),
        "reconnected_cb": changed("reconnected"),
        "closed_cb": changed("closed"),
        "reconnect_time_wait": 0.1,
        "max_reconnect_attempts": -1 if patient else 1,
        "allow_reconnect": patient,
        "no_echo": not echo,
        # no buffering while disconnected: a request that waits for the broker's return is answered too late
        "pending_size": 0,
        # subjects are built here from checked parts, or come from the broker, which has checked them
        "skip_subject_validation": True,
        "connect_timeout": 2,
        "ping_interval": 2,  # a server that hangs is left for another within three intervals
        "max_outstanding_pings": 2,
        "drain_timeout": 10,
    }
    if certificate := os.environ.get(PINNED_CERTIFICATE):
        url = url.replace("nats://", "tls://")
        options["tls"] = _pinned(certificate, os.environ.get(SHOWN_KEY))
    faults: list[Exception] = []
    for servers in [url.split(",")] if patient else [[server] for server in url.split(",")]:
        try:
            return await _connected(servers, options)
        except (BrokerTooOld, NatsError, OSError) as fault:
            faults.append(fault)
    raise next((fault for fault in faults if isinstance(fault, BrokerTooOld)), faults[-1])


async def _connected(servers: list[str], options: dict[str, Any]) -> Connection:
    connection = Connection()
    await connection.connect(servers, **options)
    return connection


def _pinned(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is known
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    if key is not None:
        context.load_cert_chain(certificate, key)
    return context
