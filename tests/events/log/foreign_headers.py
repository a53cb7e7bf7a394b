"""Headers that a foreign message may be stored with: the broker accepts any bytes there (ADR 24)."""

import msgspec

from events.bus.connection import Connection
from events.log.appender import Ack
from tests.raw import connected, hpub

HEADERS = {
    "a header": b"NATS/1.0\r\nA: b\r\n\r\n",
    "as nobody's answer": b"NATS/1.0\r\nStatus: 503\r\n\r\n",
    "as no message": b"NATS/1.0\r\nStatus: 404\r\n\r\n",
    "as a heartbeat": b"NATS/1.0\r\nStatus: 100\r\n\r\n",
    "a status line": b"NATS/1.0 503\r\n\r\n",
    "a status line as of an end": b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 0\r\nNats-Last-Sequence: 0\r\n\r\n",
    "another's place": b"NATS/1.0\r\nNats-Subject: x\r\nNats-Sequence: x\r\nNats-Time-Stamp: x\r\n\r\n",
    "long": b"NATS/1.0\r\nA: " + b"b" * 9000 + b"\r\n\r\n",
    "many": b"NATS/1.0\r\n" + b"".join(b"H%d: 1\r\n" % number for number in range(70)) + b"\r\n",
    "no text": b"NATS/1.0\r\n\xff\x00: \xfe\r\n\r\n",
    "no headers": b"nothing of the kind",
}


async def store(connection: Connection, url: str, subject: str, headers: bytes, body: bytes = b"{}") -> int:
    """Have the broker store such a message; return its sequence."""
    inbox = connection.new_inbox()
    stored = await connection.subscribe(inbox)
    await connection.flush()  # or the message may be acknowledged before the subscription exists
    socket = await connected(url)
    await socket.send(hpub(subject.encode(), inbox.encode(), headers, body))
    await socket.close()
    acknowledged = await stored.next_msg(timeout=5)
    await stored.unsubscribe()
    return msgspec.json.decode(acknowledged.data, type=Ack).seq
