"""Tests, before the service serves, what strangers may do on a broker (contract §7, docs/security.md).

A broker refuses at once, and in order, what it does not allow: after a ping, everything not refused is open. No probe
has an effect where it is open. The broker checks the right to publish first, and then refuses to deliver a message with
a reply subject of its own. Even if it delivered one, no stream would store it, and every receiver would reject it as
malformed. Where others may listen in the same queue group, the subject belongs to one client, for a moment.
"""

import asyncio
import logging
import secrets
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from nats.errors import Error as NatsError
from nats.errors import NoServersError

from events.bus.connect import connect
from heirloom.broker.credentials import Credentials
from heirloom.broker.roles import ROLES, SHOWN, inbox
from heirloom.broker.run_file import host_of
from heirloom.exposure.probes import NO_STREAM, Name, Probe, may, probes
from service.connections.admission import PROBE

log = logging.getLogger("heirloom.replica")

MAX_ATTEMPTS = 5
PAUSE_SECONDS = 0.2
"""A broker that does not answer now may answer later: an untested right is not a closed one."""
UNDELIVERED = "_R_.doors"
"""The broker reserves these reply subjects, and refuses a client's message that has one."""
OF_NO_STREAM = {"Nats-Expected-Stream": NO_STREAM}
"""JetStream does not store a message that expects to be stored in a stream of another name."""
MALFORMED = b"{"
"""No valid request: the broker would obey some of its own orders without a body."""
REFUSALS = ("authorization violation", "authentication revoked", "authentication expired")
"""The broker's words for a known user who is not let in. Any other refusal may change in a moment."""


AWAY = "no server answers there"


class OpenDoors(Exception):
    """Strangers may do on this broker what only the service may; the message names each thing."""

    def __init__(self, host: str, found: list[str]) -> None:
        super().__init__(
            f"the broker at {host} is open: {'; '.join(found)}. `heirloom broker-config` writes a configuration that"
            " shuts it; with --insecure the service serves there all the same"
        )


class Untried(Exception):
    """It is unknown whether the broker lets somebody in, and why; `is_away`: it does not answer at all."""

    def __init__(self, host: str, who: str, reason: str) -> None:
        self.is_away = reason == AWAY
        super().__init__(
            f"the broker at {host} does not say whether it lets in {who}: {reason}. Start again when it does, or leave"
            " that server out of the URL; with --insecure the service serves there untried"
        )


class _Stranger(NamedTuple):
    """A kind of stranger, in words; the URL by which it connects; and what it may rightly do."""

    who: str
    url: str
    may_publish: tuple[str, ...] = ()
    may_subscribe: tuple[str, ...] = ()


async def try_doors(url: str, known: Credentials | None, names: Collection[Name] = ()) -> None:
    """Test each server of `url`, also with these names. Raises `OpenDoors`, `Untried`, and `BrokerTooOld`.

    Without the credentials that are made here (`known`), the test connects with none, and with wrong ones. With them,
    the replica already answers the broker's auth callouts. A server of a cluster that is down does not prevent serving
    beside the others; that it was not tested is logged.
    """
    away: list[Untried] = []
    tried = probes(names=names)
    servers = url.split(",")
    for server in servers:
        host = host_of(server)
        strangers = list(_strangers(urlsplit(server).scheme, host, known))
        try:
            found = await asyncio.gather(*(_open_to(stranger, tried) for stranger in strangers))
        except Untried as untried:
            if not untried.is_away:
                raise
            away.append(untried)
            continue
        if open_rights := [line for line in found if line]:
            raise OpenDoors(host, open_rights)
    if len(away) == len(servers):
        raise away[0]
    for passed_over in away:
        log.warning("a server's doors were not tried: %s", passed_over)


def _strangers(scheme: str, host: str, known: Credentials | None) -> Iterator[_Stranger]:
    yield _Stranger("anybody without credentials", f"{scheme}://{host}")
    made_up = f"doors-{secrets.token_hex(4)}:{secrets.token_hex(16)}"
    yield _Stranger("anybody with a made-up name and password", f"{scheme}://{made_up}@{host}")
    if known is not None:
        for role in SHOWN:
            own = (*ROLES[role].subscribe, f"{inbox(role)}.>")
            yield _Stranger(f"the role {role}", known.url(role, host), ROLES[role].publish, own)
        yield _Stranger("every client", known.client_url(*PROBE, host))


async def _open_to(stranger: _Stranger, every: Iterable[Probe]) -> str:
    """What the stranger may wrongly do, in words; empty for nothing. Raises `Untried`."""
    by_right = {True: stranger.may_publish, False: stranger.may_subscribe}
    tried = [probe for probe in every if not may(by_right[probe.publishes], probe.subject)]
    reason = ""
    for attempt in range(MAX_ATTEMPTS):
        await asyncio.sleep(attempt * PAUSE_SECONDS)
        try:
            refused = await _refused_to(stranger.url, tried)
        except (TimeoutError, NatsError, OSError) as error:
            reason = _reason(error)
            if any(refusal in reason.lower() for refusal in REFUSALS):
                return ""
        else:
            opened = dict.fromkeys(probe.what for probe in tried if _refusal(probe) not in refused)
            return f"{stranger.who} may {', '.join(opened)}" if opened else ""
    raise Untried(host_of(stranger.url), stranger.who, reason)


async def _refused_to(url: str, tried: Iterable[Probe]) -> set[str]:
    """The probes that the broker refuses, in its own words."""
    refused: set[str] = set()
    connection = await connect(url, "heirloom doors", patient=False)
    try:
        connection.when_denied = lambda words: refused.add(words.lower().partition(" for ")[2].rstrip("'"))
        for probe in tried:
            if probe.publishes:
                await connection.publish(probe.subject, MALFORMED, UNDELIVERED, OF_NO_STREAM)
            else:
                await (await connection.subscribe(probe.subject, probe.queue)).unsubscribe()
        await connection.flush()
    finally:
        await connection.close()
    return refused


def _refusal(probe: Probe) -> str:
    """The broker's words of refusal, in lower case."""
    queue = f' using queue "{probe.queue}"' if probe.queue else ""
    return f'{"publish" if probe.publishes else "subscription"} to "{probe.subject}"{queue}'.lower()


def _reason(error: Exception) -> str:
    if isinstance(error, NoServersError):
        return AWAY
    return str(error).removeprefix("nats: ").strip("'\"") or type(error).__name__
