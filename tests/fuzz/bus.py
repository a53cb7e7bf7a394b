"""Arbitrary PUB and HPUB lines to a running service, from every kind of connection to its broker.

Afterwards the log holds nothing new but commits of the client's own requests, no connection of the service was lost,
and every request of a bystander was answered.
"""

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from events.aggregates.aggregate_names import STREAM
from events.aggregates.family_commit import codec
from events.bus.connection import Connection
from heirloom.broker import credentials
from heirloom.broker.own_connection import connect_as
from tests import raw
from tests.fuzz.parsers import QUESTIONS, REQUESTS
from tests.fuzz.run import Crash
from tests.system.service import Caller, Service

BATCH = 100
"""Lines between two checks whether the broker is still connected."""
ANSWER_SECONDS = 30
LOST = '"event":"connection disconnected"'
CLIENT = ("oauth.acme.client.web.token", "oauth.acme.client.web.introspect", "oauth.acme.client.web.issue")
PUBLIC = ("oauth.acme.public.jwks", "oauth.acme.public.metadata", "oauth.a.public.jwks")
FORBIDDEN = ("tokens.acme.family.f1.live", "tokens.checkpoint", "admin.acme.client.disable", "heirloom.news.acme.f.1")
JETSTREAM = ("$JS.API.STREAM.DELETE.TOKENS", "$JS.HEIRLOOM.API.DIRECT.GET.TOKENS", "$SRV.PING", "$SRV.STATS.heirloom")
SUBJECTS = {
    "client": (*CLIENT, *PUBLIC, "oauth.acme.client.other.token"),
    "person": (*CLIENT, *PUBLIC),
    "resource": (*PUBLIC, "oauth.acme.edge.introspect", "oauth.acme.edge.token"),
    "auditor": (*PUBLIC, "audit.acme.position", "audit.acme.family", "audit.acme.token", "audit.a.families"),
}
REPLIES = (
    "",
    "",
    "_INBOX.acme.web.1",
    "_INBOX.role.auditor.1",
    "_R_.1",
    "_INBOX.x",
    "_INBOX.>",
    *FORBIDDEN,
    *JETSTREAM,
)
ODD = b"\x0b\x0c\r\x00\x1c\x1d\x1e\x1f\x7f\x80\x85\xa0\xff.*>"
BODIES = (b"", b"{}", b"\r\n", b"MSG oauth.acme.public.jwks 1 2\r\nhi\r\n", *REQUESTS, *QUESTIONS)


class Figures(NamedTuple):
    """The counts of a run.

    Lines by sender; connections that the broker closed for them; the bystander's replies (`ok` or an error code);
    commits of the client's own requests.
    """

    lines: Counter[str]
    ended: int
    bystander: Counter[str]
    commits: int


async def fuzz_bus(service: Service, lines: int, seed: int) -> Figures:
    """Send that many lines. Raises `Crash`."""
    async with service.client() as web, _own(service) as own:
        token = (await web.issue("mallory"))["access_token"]
        before, lost, pids = await _log(own), _lost(service), service.pids("")
        sent: Counter[str] = Counter()
        stop, ended = asyncio.Event(), 0
        standing = asyncio.create_task(_stand_by(service, stop))
        share = lines // len(SUBJECTS)
        ended = sum(
            await asyncio.gather(
                *(_send(url, _Lines(who, f"{seed}/{who}"), share, sent) for who, url in _urls(service, token).items())
            )
        )
        stop.set()
        bystander = await standing
        assert "access_token" in await web.issue("mallory")
        after = await _log(own)
        if _lost(service) != lost or service.pids("") != pids:
            raise Crash(f"seed {seed}: the service lost {_lost(service) - lost} connections; {pids} {service.pids('')}")
        return Figures(sent, ended, bystander, _compared(before, after, seed) - 1)


def _urls(service: Service, token: str) -> dict[str, str]:
    known, host = credentials.load(service.data), service.host
    return {
        "client": known.client_url("acme", "web", host),
        "person": f"nats://acme.web:{token}@{host}",
        **{role: known.url(role, host) for role in ("resource", "auditor")},
    }


async def _send(url: str, lines: "_Lines", count: int, sent: Counter[str]) -> int:
    """Send the lines; returns how often the broker closed the connection."""
    ended, socket = 0, await raw.connected(url)
    for begin in range(0, count, BATCH):
        batch = [lines.make() for _ in range(min(BATCH, count - begin))]
        if lines.chance.random() < 0.1:  # the broker closes this connection for it, and no other
            batch[-1] = lines.malformed()
        if not await socket.send(b"".join(batch)):
            ended, socket = ended + 1, await raw.connected(url)
        socket.sent.clear()
        sent[lines.who] += len(batch)
    await socket.close()
    return ended


class _Lines:
    """The lines of one sender, reproducible by the seed."""

    def __init__(self, who: str, seed: str) -> None:
        self.who = who
        self.chance = random.Random(seed)
        self._subjects = [subject.encode() for subject in (*SUBJECTS[who], *FORBIDDEN, *JETSTREAM)]
        self._replies = [reply.encode() for reply in REPLIES]

    def make(self) -> bytes:
        """A PUB or HPUB that the broker can read."""
        chance = self.chance
        subject = self._field(chance.choice(self._subjects)) or b"x"
        reply = self._field(chance.choice(self._replies))
        body = chance.choice(BODIES) if chance.random() < 0.7 else chance.randbytes(chance.randrange(60))
        made = (
            raw.hpub(subject, reply, self._headers(), body) if chance.random() < 0.4 else raw.pub(subject, reply, body)
        )
        line, end, rest = made.partition(b"\r\n")
        return (line.replace(b" ", b"\t ") if chance.random() < 0.1 else line) + end + rest

    def malformed(self) -> bytes:
        """A line that it cannot read: it ends before its subject."""
        line = self.make()
        at = self.chance.randrange(1, 7)
        return line[:at] + b"\n" + line[at:]

    def _field(self, field: bytes) -> bytes:
        """A subject, mostly with other bytes in it, some of which would begin another field if they could."""
        chance, odd = self.chance, bytearray(field)
        if chance.random() < 0.15:
            space = bytes([chance.choice(ODD)])
            forged = b"%b%d%b%b" % (space, chance.randrange(60), space, chance.choice(FORBIDDEN).encode())
            at = odd.find(b".") + 2
            odd[at:at] = forged
        for _ in range(chance.choice((0, 0, 1, 1, 3))):
            at = chance.randrange(len(odd) + 1)
            odd[at : at + chance.randrange(2)] = bytes(
                [chance.choice(ODD) if chance.random() < 0.6 else chance.randrange(256)]
            )
        return bytes(odd).translate(None, b"\n\t ")[:3000].removesuffix(b"\r")

    def _headers(self) -> bytes:
        chance = self.chance
        if chance.random() < 0.2:
            return chance.randbytes(chance.randrange(1, 80))
        size = 20_000 if chance.random() < 0.005 else chance.randrange(40)
        names = (b"Idempotency-Key", b"Authorization", b"traceparent", b"Nats-Msg-Id", chance.randbytes(3))
        lines = [chance.choice(names) + b":" + chance.randbytes(size) for _ in range(chance.randrange(4))]
        first = chance.choice((b"NATS/1.0", b"NATS/1.0", b"NATS/1.0 503", b"NATS/1.0 100 Idle", b"HTTP/1.1"))
        return b"\r\n".join([first, *lines, b"", b""])


async def _stand_by(service: Service, stop: asyncio.Event) -> Counter[str]:
    """Send another client's requests, one after the other. Raises `Crash` for one without a reply."""
    outcomes: Counter[str] = Counter()
    async with service.client("web", "globex") as caller:
        while not stop.is_set():
            for what, subject in (("introspect", caller), ("oauth.globex.public.jwks", Caller(caller.connection, ""))):
                try:
                    answer = await subject.ask(what, {"token": "hrt_x"}, seconds=ANSWER_SECONDS)
                except TimeoutError as error:
                    raise Crash(f"a bystander's {what} was not answered, after {outcomes}") from error
                outcomes[str(answer.get("error", "ok"))] += 1
            await asyncio.sleep(0.02)
    return outcomes


@asynccontextmanager
async def _own(service: Service) -> AsyncIterator[Connection]:
    known = credentials.load(service.data)
    connection = await connect_as("service", "fuzz", f"nats://{service.host}", known)
    try:
        yield connection
    finally:
        await connection.close()


async def _log(connection: Connection) -> list[dict[str, Any]]:
    """Every message of the log with its sequence, subject, time, headers and body."""
    jetstream = connection.jetstream()
    last = (await jetstream.stream_info(STREAM)).state.last_seq
    found = []
    for seq in range(1, last + 1):
        reply = await connection.request(f"$JS.API.STREAM.MSG.GET.{STREAM}", b'{"seq":%d}' % seq, timeout=10)
        found.append(json.loads(reply.data)["message"])
    return found


def _compared(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], seed: int) -> int:
    """The number of new messages. Raises `Crash` for one that is no commit of the client's own requests."""
    if list(after[: len(before)]) != list(before):
        raise Crash(f"seed {seed}: the log is another one")
    for message in after[len(before) :]:
        commit = codec.decode(base64.b64decode(message["data"]))
        if not message["subject"].startswith("tokens.acme.family.") or commit.actor != "client:web":
            raise Crash(f"seed {seed}: {message} was written")
    return len(after) - len(before)


def _lost(service: Service) -> int:
    return sum(log.read_text(errors="replace").count(LOST) for log in service.data.glob("*.log*"))
