"""The doors of a broker, tried before the service serves: what strangers may do there (CONTRACT §7, docs/security.md).

A broker answers at once, and in order, what it does not allow: so after a ping, all that it has not refused is open.
Whatever is tried does nothing where it is open: no stream stores it, and no service listens to it.
"""

import asyncio
import logging
import secrets
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from nats.errors import Error as NatsError
from nats.errors import NoServersError

from events import bus
from heirloom.credentials import Credentials
from heirloom.roles import ROLES, SHOWN
from heirloom.running import host_of
from service.connecting import PROBE

log = logging.getLogger("heirloom.replica")

ATTEMPTS = 5
"""A broker that does not answer now may answer later: what was not tried is not shut."""
OF_NO_STREAM = {"Nats-Expected-Stream": "heirloom-doors"}
"""JetStream does not store what expects to be stored in a stream of another name."""
PUBLISH = {
    "tokens.doors.family.doors.live": "publish to tokens.>, the log",
    "tokens.checkpoint": "publish checkpoints of the log",
    "admin.doors.doors.doors": "publish to admin.>, an operator's orders",
    "$JS.API.STREAM.NAMES": "publish to $JS.API.>",
    "$JS.API.CONSUMER.CREATE.DOORS.doors": "make consumers",
    "oauth.doors.client.doors.doors": "publish another client's requests",
    "_INBOX.doors.doors": "publish to another's inbox",
}
SUBSCRIBE = {
    "tokens.>": "subscribe to tokens.>, the log",
    "admin.>": "subscribe to admin.>, an operator's orders",
    "oauth.>": "subscribe to oauth.>, everybody's requests",
    "$JS.API.>": "subscribe to $JS.API.>",
    "_INBOX.>": "subscribe to another's inbox",
}
"""By the subject that is tried: what no stranger may do, in words."""


class OpenDoors(Exception):
    """Strangers may do on this broker what is the service's alone; each thing is named."""

    def __init__(self, host: str, found: list[str]) -> None:
        super().__init__(
            f"the broker at {host} is open: {'; '.join(found)}. `heirloom broker-config` writes a configuration that"
            " shuts it; with --insecure the service serves there all the same"
        )


class Untried(Exception):
    """The broker did not tell whether it lets somebody in."""


class _Stranger(NamedTuple):
    """Who tries, in words; with which URL; and what is theirs by right."""

    who: str
    url: str
    may_publish: tuple[str, ...] = ()


async def try_doors(url: str, known: Credentials | None) -> None:
    """Try each server of `url`. Raises `OpenDoors`, `Untried`, and `BrokerTooOld`.

    Without the credentials that are made here (`known`) nobody's are known on that broker: it is tried with none, and
    with wrong ones. With them, the replica answers the broker's questions about clients already.
    """
    for server in url.split(","):
        host = host_of(server)
        strangers = list(_strangers(urlsplit(server).scheme, host, known))
        found = await asyncio.gather(*(_open_to(stranger) for stranger in strangers))
        if said := [line for line in found if line]:
            raise OpenDoors(host, said)


def _strangers(scheme: str, host: str, known: Credentials | None) -> Iterator[_Stranger]:
    yield _Stranger("anybody without credentials", f"{scheme}://{host}")
    made_up = f"doors-{secrets.token_hex(4)}:{secrets.token_hex(16)}"
    yield _Stranger("anybody with a made-up name and password", f"{scheme}://{made_up}@{host}")
    if known is not None:
        for role in SHOWN:
            yield _Stranger(f"the role {role}", known.url(role, host), ROLES[role].publish)
        yield _Stranger("every client", known.client_url(*PROBE, host))


async def _open_to(stranger: _Stranger) -> str:
    """What that stranger may do and should not, in words; empty for nothing. Raises `Untried`."""
    tried = {subject: what for subject, what in PUBLISH.items() if not _matches(stranger.may_publish, subject)}
    for _ in range(ATTEMPTS):
        try:
            refused = await _refused_to(stranger.url, tried)
        except TimeoutError:
            continue
        except NoServersError:
            log.warning("no broker answers at %s: its doors are not tried", host_of(stranger.url))
            return ""
        except (NatsError, OSError):  # not let in
            return ""
        opened = [what for subject, what in (tried | SUBSCRIBE).items() if f'"{subject.lower()}"' not in refused]
        return f"{stranger.who} may {', '.join(opened)}" if opened else ""
    raise Untried(f"the broker at {host_of(stranger.url)} does not say whether it lets in {stranger.who}; start again")


async def _refused_to(url: str, tried: Iterable[str]) -> str:
    """All that the broker answers, in small letters, to who publishes what is `tried` and subscribes to the rest."""
    refused: list[str] = []
    connection = await bus.connect(url, "heirloom doors", patient=False)
    try:
        connection.when_denied = refused.append
        for subject in tried:
            await connection.publish(subject, headers=OF_NO_STREAM)
        for subject in SUBSCRIBE:
            await connection.subscribe(subject)
        await connection.flush()  # nats-py sends this ping before what it has not sent yet
        await connection.flush()
    finally:
        await connection.close()
    return "\n".join(refused).lower()


def _matches(patterns: tuple[str, ...], subject: str) -> bool:
    """Whether one of the patterns is about that subject, which has no wildcard."""
    return any(_is_about(pattern.split("."), subject.split(".")) for pattern in patterns)


def _is_about(pattern: list[str], subject: list[str]) -> bool:
    head = pattern[:-1] if pattern[-1] == ">" else pattern
    long_enough = len(subject) > len(head) if pattern[-1] == ">" else len(subject) == len(head)
    return long_enough and all(part in ("*", given) for part, given in zip(head, subject, strict=False))
