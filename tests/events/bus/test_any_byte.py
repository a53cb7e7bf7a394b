"""A connection receives what the broker sent, whatever bytes were published, compared with a reader of our own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from nats.aio.msg import Msg
from nats.errors import BadSubjectError

from events.bus import connection as bus
from events.bus import headers as message_headers
from events.bus.connect import connect
from events.bus.parser import Parser
from tests import raw
from tests.broker import Broker, broker
from tests.events.bus.test_parser import Recorder
from tests.raw import Received, Socket, hpub, pub

TIMEOUT_SECONDS = 10
BYTES = [bytes([number]) for number in range(256)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One broker for all tests of this file."""
    with broker(tmp_path_factory.mktemp("any-byte") / "broker") as server:
        yield server


class Both:
    """A raw reader of our own, and a `Connection` with a raw handler and a callback for the same messages."""

    def __init__(self, server: Broker, reference: Socket, connection: bus.Connection) -> None:
        self._server = server
        self._reference = reference
        self._connection = connection
        self._publisher: Socket | None = None
        self.taken: list[Received] = []
        self.called: list[Received] = []
        self._count = 0

    async def listen(self) -> None:
        """Subscribe to everything below `t`."""

        def take(subject: bytes, reply: bytes, body: bytes, headers: bytes | None) -> None:
            self.taken.append(Received(subject, 0, reply, headers or b"", body))

        async def called(message: Msg) -> None:
            subject, reply = (text.encode(errors=bus.KEEP_ANY_BYTE) for text in (message.subject, message.reply))
            self.called.append(Received(subject, 0, reply, b"", message.data))

        await self._connection.listen("t.>", take)
        await self._connection.subscribe("t.>", cb=called)
        await self._connection.flush()
        assert await self._reference.send(b"SUB t.> 9\r\n")

    async def publish(self, lines: list[bytes]) -> list[Received]:
        """Publish each line, on a new connection if the broker closed the last one.

        Return what all readers have received, which must be the same.
        """
        for line in lines:
            if self._publisher is None:
                self._publisher = await raw.connected(self._server.url)
            if not await self._publisher.send(line):
                self._publisher = None
        self._count += 1
        last = b"the last %d" % self._count
        end = await raw.connected(self._server.url)
        assert await end.send(pub(b"t.end", b"", last))
        await end.close()
        sent = await self._reference.received_until(last)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not (self.called and self.called[-1].body == last):
                await asyncio.sleep(0.001)
        expected = [message._replace(sid=0) for message in sent]
        assert self.taken == expected
        assert self.called == [message._replace(headers=b"") for message in expected]
        self._reference.sent.clear()
        self.taken.clear()
        self.called.clear()
        return expected

    async def leave(self) -> None:
        """Close the publisher's connection."""
        if self._publisher is not None:
            await self._publisher.close()


@asynccontextmanager
async def both(server: Broker) -> AsyncIterator[Both]:
    """Both readers, subscribed; the connection must not be lost within the block."""
    changes: list[str] = []

    async def changed(what: str) -> None:
        changes.append(what)

    reference, connection = await raw.connected(server.url), await connect(server.url, "test", on_change=changed)
    found = Both(server, reference, connection)
    try:
        await found.listen()
        yield found
        assert changes == []
    finally:
        await connection.close()
        await reference.close()
        await found.leave()


def _everywhere(byte: bytes) -> list[bytes]:
    """Messages with that byte in each possible place."""
    odd, headers = b"t.a" + byte + b"b", b"NATS/1.0\r\nA%b: b%bc\r\n\r\n"
    return [
        pub(odd, b"", b"x"),
        pub(b"t." + byte, b"", b"x"),
        pub(b"t.x", b"r.a" + byte + b"b", b"x"),
        pub(b"t.x", b"r", byte),
        pub(odd + b".1", odd + b".2", byte),
        hpub(odd, odd, headers % (byte, byte), byte),
        hpub(b"t.x", b"", byte * 3, b"x"),
        hpub(b"t.x", b"", headers % (byte, b"") + byte, b"\r\n" + byte),
    ]


async def test_every_byte_in_every_place(server: Broker) -> None:
    """Control bytes in a subject must not separate fields, or a publisher could write the reply subject."""
    async with both(server) as them:
        received = await them.publish([line for byte in BYTES for line in _everywhere(byte)])
    assert {message.subject for message in received} >= {b"t.a" + byte + b"b" for byte in BYTES if byte not in b"\n \t"}
    assert {message.body for message in received} >= set(BYTES)
    assert len(received) > 1_700


fields = st.binary(min_size=1, max_size=12).map(lambda field: field.replace(b"\n", b"\x0b"))
odd = st.sampled_from([b"\x0b3\x0btokens.x", b"\x0c", b" ", b"\t9\t", b"\r", b"\x00", b"\xff\xfe", b"\x1f", b"\x85"])
places = st.lists(st.one_of(fields, odd), min_size=1, max_size=3).map(b"".join)
published = st.one_of(
    st.builds(lambda *parts: pub(b"t." + parts[0], *parts[1:]), places, st.just(b"") | places, st.binary(max_size=40)),
    st.builds(
        lambda subject, *rest: hpub(b"t." + subject, *rest),
        places,
        st.just(b"") | places,
        st.binary(min_size=1, max_size=40),
        st.binary(max_size=40),
    ),
)


def test_any_messages(tmp_path: Path, server: Broker) -> None:
    """As `test_every_byte_in_every_place`, several at once."""
    with asyncio.Runner() as runner:
        entered = both(server)
        them = runner.run(entered.__aenter__())

        @settings(
            max_examples=50, deadline=None, phases=(Phase.explicit, Phase.generate)
        )  # a lost connection takes long
        @given(st.lists(published, max_size=8))
        def check(lines: list[bytes]) -> None:
            runner.run(them.publish(lines))

        check()
        runner.run(entered.__aexit__(None, None, None))


async def test_any_cut_of_the_stream_gives_the_same_messages(server: Broker) -> None:
    """Cut in two anywhere, and byte by byte."""
    reference, publisher = await raw.connected(server.url), await raw.connected(server.url)
    assert await reference.send(b"SUB t.> 2\r\n")
    reference.sent.clear()
    for line in [*_everywhere(b"\x0b"), *_everywhere(b"\r"), *_everywhere(b"\xff"), pub(b"t.x", b"", b"MSG a 2 1\r\n")]:
        assert await publisher.send(line)
    assert await publisher.send(pub(b"t.end", b"", b"the last"))
    sent = await reference.received_until(b"the last")
    stream = bytes(reference.sent)
    expected = [(2, each.subject, each.reply, each.body, each.headers or None) for each in sent]
    for cut in range(len(stream) + 1):
        assert await _parsed([stream[:cut], stream[cut:]]) == expected
    assert await _parsed([bytes([byte]) for byte in stream]) == expected
    assert len(expected) > 20
    await reference.close()
    await publisher.close()


async def _parsed(pieces: list[bytes]) -> list[Any]:
    recorded = Recorder(True)
    parser = Parser(recorded)
    for piece in pieces:
        await parser.parse(piece)
    return recorded.all


async def test_headers_are_measured_before_they_are_parsed(server: Broker) -> None:
    """Parsing 1 MB of headers in each of twenty messages would stop a replica for seconds."""
    connection = await connect(server.url, "test")
    taken: list[bytes | None] = []
    await connection.listen("t.h", lambda _subject, _reply, _body, headers: taken.append(headers))
    received = await connection.subscribe("t.h")
    await connection.flush()
    publisher = await raw.connected(server.url)
    long = message_headers.MAX_BYTES - len(b"NATS/1.0\r\nA: \r\n\r\n")
    many = [b"a%d: b\r\n" % number for number in range(message_headers.MAX_HEADERS)]
    counts = {
        b"A: %b\r\n" % (b"x" * long): 1,
        b"A: %b\r\n" % (b"x" * (long + 1)): None,
        b"A: b\r\n" * 150_000: None,
        b"".join(many): message_headers.MAX_HEADERS,
        b"".join([*many, b"b: b\r\n"]): None,
    }
    for lines, count in counts.items():
        assert await publisher.send(hpub(b"t.h", b"", b"NATS/1.0\r\n" + lines + b"\r\n", b""))
        message = await received.next_msg(TIMEOUT_SECONDS)
        await connection.flush()  # the broker chooses which of two subscriptions gets it first
        came = taken.pop()
        if count is None:
            with pytest.raises(message_headers.UnreadableHeaders):
                message_headers.legible(message.headers)
            with pytest.raises(message_headers.UnreadableHeaders):
                connection.headers_of(came)
        else:
            assert len(message_headers.legible(message.headers)) == len(connection.headers_of(came)) == count
    await publisher.close()
    await connection.close()


async def test_malformed_headers_reach_the_handler(server: Broker) -> None:
    """A status that is not ASCII must not make the message disappear: its handler can refuse it."""
    connection = await connect(server.url, "test")
    received = await connection.subscribe("t.h")
    await connection.flush()
    publisher = await raw.connected(server.url)
    for headers in (b"NATS/1.0 \xff\xff\xff\r\n\r\n", b"NATS/1.0 503 \xff\r\n\r\n", b"NATS/1.0", b"N"):
        assert await publisher.send(hpub(b"t.h", b"r", headers, b""))
        with pytest.raises(message_headers.UnreadableHeaders, match="malformed"):
            message_headers.legible((await received.next_msg(TIMEOUT_SECONDS)).headers)
    await publisher.close()
    await connection.close()


async def test_a_line_end_in_a_header_injects_nothing(server: Broker) -> None:
    """It makes neither another header nor another command to the broker."""
    connection = await connect(server.url, "test")
    reference = await raw.connected(server.url)
    assert await reference.send(b"SUB t.> 1\r\n")
    for value in ("a\r\nB: c", "a\nB: c", "a\rB: c", "a\r\n\r\nPUB t.stolen 0\r\n\r\n"):
        await connection.publish("t.x", b"body", "r", {"A": value, "Z": "last"})
    await connection.publish("t.end", b"the last")
    *messages, _ = await reference.received_until(b"the last")
    assert [(each.subject, each.reply, each.body) for each in messages] == [(b"t.x", b"r", b"body")] * 4
    for message in messages:
        assert [line[:1] for line in message.headers.split(b"\r\n")] == [b"N", b"A", b"Z", b"", b""]
        assert message.headers.count(b"\n") == message.headers.count(b"\r") == 4
    await reference.close()
    await connection.close()


@pytest.mark.parametrize("subject", ["t.a b", "t.a\tb", "t.a\rb", "t.a\nb", "t." + "a" * 4000])
async def test_no_subject_becomes_another(server: Broker, subject: str) -> None:
    """The broker loses a CR at the end of a read, so that `tok<CR>ens.x` could become `tokens.x`."""
    connection = await connect(server.url, "test")
    with pytest.raises(BadSubjectError):
        await connection.publish(subject, b"")
    with pytest.raises(BadSubjectError):
        await connection.publish("t.x", b"", subject)
    await connection.close()
