"""The doors of a broker, tried before the service serves: what strangers may do there (CONTRACT §7, docs/security.md).

A broker answers at once, and in order, what it does not allow: so after a ping, all that it has not refused is open.
Whatever is tried does nothing where it is open. The broker delivers no message with a reply subject of its own, which
it looks at after the right to publish; and if it did, no stream would store it, and all that receive it would take it
for malformed. Where there may be others that listen in the same queue, the subject is of one client, for a moment.
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

ATTEMPTS = 5
PAUSE_SECONDS = 0.2
"""A broker that does not answer now may answer later: what was not tried is not shut."""
UNDELIVERED = "_R_.doors"
"""The broker keeps these reply subjects for itself, and refuses a message of a client's that has one."""
OF_NO_STREAM = {"Nats-Expected-Stream": NO_STREAM}
"""JetStream does not store what expects to be stored in a stream of another name."""
MALFORMED = b"{"
"""No request to the broker: without a body, some orders of its own would be obeyed."""
REFUSALS = ("authorization violation", "authentication revoked", "authentication expired")
"""How a broker words that it knows somebody and does not let him in. All else may be otherwise in a moment."""


AWAY = "no server answers there"


class OpenDoors(Exception):
    """Strangers may do on this broker what is the service's alone; each thing is named."""

    def __init__(self, host: str, found: list[str]) -> None:
        super().__init__(
            f"the broker at {host} is open: {'; '.join(found)}. `heirloom broker-config` writes a configuration that"
            " shuts it; with --insecure the service serves there all the same"
        )


class Untried(Exception):
    """The broker did not tell whether it lets somebody in, and why; `is_away`: nobody answers there at all."""

    def __init__(self, host: str, who: str, reason: str) -> None:
        self.is_away = reason == AWAY
        super().__init__(
            f"the broker at {host} does not say whether it lets in {who}: {reason}. Start again when it does, or leave"
            " that server out of the URL; with --insecure the service serves there untried"
        )


class _Stranger(NamedTuple):
    """Who tries, in words; with which URL; and what is theirs by right."""

    who: str
    url: str
    may_publish: tuple[str, ...] = ()
    may_subscribe: tuple[str, ...] = ()


async def try_doors(url: str, known: Credentials | None, names: Collection[Name] = ()) -> None:
    """Try each server of `url`, also by these names. Raises `OpenDoors`, `Untried`, and `BrokerTooOld`.

    Without the credentials that are made here (`known`) nobody's are known on that broker: it is tried with none, and
    with wrong ones. With them, the replica answers the broker's questions about clients already.

    A server of a cluster that is away keeps nobody from serving beside the others: that it was not tried is logged.
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
        if said := [line for line in found if line]:
            raise OpenDoors(host, said)
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
    """What that stranger may do and should not, in words; empty for nothing. Raises `Untried`."""
    by_right = {True: stranger.may_publish, False: stranger.may_subscribe}
    tried = [probe for probe in every if not may(by_right[probe.publishes], probe.subject)]
    reason = ""
    for attempt in range(ATTEMPTS):
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
    """What the broker refuses to who tries that."""
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
    """How the broker words it, in small letters."""
    queue = f' using queue "{probe.queue}"' if probe.queue else ""
    return f'{"publish" if probe.publishes else "subscription"} to "{probe.subject}"{queue}'.lower()


def _reason(error: Exception) -> str:
    if isinstance(error, NoServersError):
        return AWAY
    return str(error).removeprefix("nats: ").strip("'\"") or type(error).__name__
