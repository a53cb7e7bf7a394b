"""The parser understands a broker as nats-py's does, however its data are cut."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.protocol.parser import Parser as NatsParser

from events.bus.parser import MAX_LINE, MAX_MESSAGE, Parser, RawHandler

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


class Recorder:
    """A connection that records what it receives, also by its raw handler."""

    def __init__(self, listening: bool) -> None:
        self.all: list[Any] = []
        self.raw_handlers: dict[int, RawHandler] = {2: self._take} if listening else {}

    def _take(self, subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
        self.all.append((2, subject, reply, body, headers))

    def drop_malformed(self, size: int, error: Exception) -> None:
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
def test_it_understands_what_nats_py_understands(data: bytes, cuts: list[int], listening: bool) -> None:
    """The same messages and lines in the same order, with and without a raw handler."""
    ours, theirs = Recorder(listening), Recorder(False)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    asyncio.run(_parse(Parser(ours), [data[begin:end] for begin, end in pairwise(places)]))
    asyncio.run(_parse(NatsParser(theirs), [data]))
    assert ours.all == theirs.all


OF_EACH_KIND = b"".join(
    (
        _message(b"a", 2, b"", b"body"),
        _message(b"a.b", 7, b"reply", b"\r\n"),
        b"PING\r\n",
        _with_headers(b"c", 2, b"reply", b"NATS/1.0\r\nA: b\r\n\r\n", b"MSG a 2 5\r\n"),
        b"-ERR 'Slow Consumer'\r\n",
        _with_headers(b"c", 7, b"", b"NATS/1.0\r\n\r\n", b""),
        b'INFO {"max_payload":1}\r\n',
        _message(b"a", 2, b"", b""),
    )
)


@pytest.mark.parametrize("width", [0, 1, 2, 3])
async def test_every_cut_gives_the_same(width: int) -> None:
    """A piece may end between a body and its line end, or within a line end, number or header."""
    whole = Recorder(True)
    await Parser(whole).parse(OF_EACH_KIND)
    for cut in range(len(OF_EACH_KIND) + 1):
        recorded, middle = Recorder(True), cut + width
        await _parse(Parser(recorded), [OF_EACH_KIND[:cut], OF_EACH_KIND[cut:middle], OF_EACH_KIND[middle:]])
        assert recorded.all == whole.all, OF_EACH_KIND[:cut]


BEHIND = b"hello\r\n"
MALFORMED = [
    *(b"MSG\r\n", b"MSG a b 3\r\n", b"HMSG a 1 x 3\r\n", b"\r\n", b" \t\r\n", b"HELLO\r\n"),
    *(b"MSG a 1 +5\r\n", b"MSG a 1_0 5\r\n", b"MSG a 1 \x0b5\r\n", b"MSG a -1 5\r\n"),
    *(b"MSG a 1 b c 5\r\n", b"MSG 1 5\r\n", b"HMSG a 1 6 5\r\n", b"HMSG a 1 5\r\n"),
    *(b"MSG\x0ba 1 5\r\n", b"MSG\x0ca\x0c1\x0c5\r\n", b"HMSG\x0ba 1 2 5\r\n", b"msg a 1 5\r\n"),
    *(b"MSG a 1 4\r\n", b"PING\n", b"MSG a 1 5\n", b"MSG a 1 99999999999999999999\r\n"),
    *(b"MSG a 1 %d\r\n" % (MAX_MESSAGE + 1), b"MSG a 1 %b\r\n" % (b"9" * 5000)),
    *(b"INFO\r\n", b"INFO {\r\n", b"INFO []\r\n", b'INFO {"a": "\xff"}\r\n', b"INFO " + b"[" * 5000 + b"\r\n"),
]


@pytest.mark.parametrize("line", MALFORMED)
@pytest.mark.parametrize("listening", [True, False])
async def test_a_malformed_line_ends_the_connection(line: bytes, listening: bool) -> None:
    """It becomes no message, also by nats-py's parser; the connection is made again."""
    recorded = Recorder(listening)
    with pytest.raises(ProtocolError):
        await Parser(recorded).parse(line + BEHIND)
    assert recorded.all == []


async def test_control_bytes_separate_no_fields() -> None:
    """Else `PUB a<VT>3<VT>tokens… 2` could reach subscription 3 with a reply subject in the log."""
    recorded = Recorder(True)
    await Parser(recorded).parse(
        b"MSG oauth.a\x0b3\x0btokens.public.jwks 2 2\r\nhi\r\nMSG \x0c\x1f\r\x00 7 r\x0b1 0\r\n\r\n"
    )
    assert recorded.all == [
        (2, b"oauth.a\x0b3\x0btokens.public.jwks", b"", b"hi", None),
        (7, b"\x0c\x1f\r\x00", b"r\x0b1", b"", None),
    ]


async def test_a_line_without_an_end_is_refused() -> None:
    """The length of a kept line is bounded."""
    parser = Parser(Recorder(True))
    with pytest.raises(ProtocolError):
        for _ in range(MAX_LINE):
            await parser.parse(b"MSG " * 32)


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"", 0, 1, ""), KeyError(), RuntimeError()])
async def test_a_message_that_its_handler_cannot_read_is_dropped_alone(error: Exception) -> None:
    """Whatever the handler raises."""
    recorded = Recorder(True)

    def choke(*_: bytes | None) -> None:
        raise error

    recorded.raw_handlers[2] = choke
    await Parser(recorded).parse(b"MSG \xff 2 1\r\na\r\nMSG a 3 1\r\nb\r\n")
    assert recorded.all == [(1, type(error)), (3, b"a", b"", b"b", None)]


async def test_an_error_with_any_bytes() -> None:
    """An error of the broker may contain what a stranger wrote."""
    recorded = Recorder(True)
    await Parser(recorded).parse(b"-ERR 'Permissions \xff\x0b'\r\n-ERR\r\n+OK\r\n")
    assert recorded.all == ["'permissions \ufffd\x0b'", ""]


async def test_a_new_connection_forgets_an_unfinished_message() -> None:
    recorded = Recorder(True)
    parser = Parser(recorded)
    await parser.parse(b"MSG a 2 100\r\nhalf of it")
    parser.reset()
    await parser.parse(b"PING\r\n")
    assert recorded.all == ["ping"]
