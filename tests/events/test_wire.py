"""What a broker sends is understood as nats-py understands it, however it is cut into pieces."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser as NatsParser

from events.wire import Parser, Taker

names = st.text("abcXYZ019._-$", min_size=1, max_size=12).map(str.encode)
replies = st.one_of(st.just(b""), names)
odd = [b"", b"\r\n", b"MSG a 1 5\r\n", b"PING\r\n" * 9, bytes(9000)]
bodies = st.one_of(st.binary(max_size=40), st.sampled_from(odd))
headers = st.binary(max_size=20).map(lambda more: b"NATS/1.0\r\nA: " + more + b"\r\n\r\n")


def _message(subject: bytes, sid: int, reply: bytes, body: bytes) -> bytes:
    place = b" ".join(part for part in (subject, b"%d" % sid, reply) if part)
    return b"MSG %b %d\r\n%b\r\n" % (place, len(body), body)


def _with_headers(subject: bytes, sid: int, reply: bytes, head: bytes, body: bytes) -> bytes:
    place = b" ".join(part for part in (subject, b"%d" % sid, reply) if part)
    return b"HMSG %b %d %d\r\n%b%b\r\n" % (place, len(head), len(head) + len(body), head, body)


sids = st.integers(1, 3)
sent = st.one_of(
    st.builds(_message, names, sids, replies, bodies),
    st.builds(_with_headers, names, sids, replies, headers, bodies),
    st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Slow Consumer'\r\n", b'INFO {"max_payload":1}\r\n']),
)


class Heard:
    """A connection that writes down what it is handed, its takers too."""

    def __init__(self, listening: bool) -> None:
        self.all: list[Any] = []
        self.takers: dict[int, Taker] = {2: self._take} if listening else {}

    def _take(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        self.all.append((2, subject, reply, body, headers))

    def malformed(self, size: int, error: Exception) -> None:
        self.all.append((size, type(error)))

    async def _process_msg(self, *message: Any) -> None:
        self.all.append(message)

    async def _process_ping(self) -> None:
        self.all.append("ping")

    async def _process_pong(self) -> None:
        self.all.append("pong")

    async def _process_err(self, what: str) -> None:
        self.all.append(what)

    async def _process_info(self, info: dict[str, Any]) -> None:
        self.all.append(info)


async def _parse(parser: NatsParser, pieces: list[bytes]) -> None:
    for piece in pieces:
        await parser.parse(piece)


@given(st.lists(sent, max_size=8).map(b"".join), st.lists(st.integers(0, 20_000), max_size=6), st.booleans())
def test_as_nats_py_understands_it(data: bytes, cuts: list[int], listening: bool) -> None:
    """The same messages and lines in the same order, whether somebody listens or not."""
    ours, theirs = Heard(listening), Heard(False)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    asyncio.run(_parse(Parser(ours), [data[begin:end] for begin, end in pairwise(places)]))
    asyncio.run(_parse(NatsParser(theirs), [data]))
    assert ours.all == theirs.all


@pytest.mark.parametrize("line", [b"MSG\r\n", b"MSG a b 3\r\n", b"HMSG a 1 x 3\r\n", b"\r\n", b"HELLO\r\n"])
async def test_what_no_broker_sends(line: bytes) -> None:
    """Ends the connection, which then begins anew."""
    with pytest.raises(ProtocolError):
        await Parser(Heard(True)).parse(line)


async def test_a_message_its_taker_cannot_read() -> None:
    """It alone is dropped."""
    heard = Heard(True)

    def choke(subject: bytes, *_: bytes | None) -> None:
        subject.decode()

    heard.takers[2] = choke
    await Parser(heard).parse(b"MSG \xff 2 1\r\na\r\nMSG a 3 1\r\nb\r\n")
    assert heard.all == [(1, UnicodeDecodeError), (3, b"a", b"", b"b", None)]


async def test_another_connection_begins() -> None:
    """What the old one left unfinished is forgotten."""
    heard = Heard(True)
    parser = Parser(heard)
    await parser.parse(b"MSG a 2 100\r\nhalf of it")
    parser.reset()
    await parser.parse(b"PING\r\n")
    assert heard.all == ["ping"]
