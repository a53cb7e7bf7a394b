"""A consistent copy of a stream, made and restored while the broker runs (JetStream's snapshot and restore).

nats-py has no helper for it. The broker sends chunks of one compressed archive, most with a reply subject that must be
answered before it sends many more. It ends with an empty message, whose status tells whether all went well.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import msgspec
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from events.bus.connection import Connection, Denied
from events.log.jetstream_api import NOT_FOUND, ApiError

BROKER_TIMEOUT_SECONDS = 30
"""For the broker's next message."""
CHUNK_BYTES = 128 * 1024
ALL_SENT = "204"


class SnapshotFailed(Exception):
    """The broker did not send or accept the stream; the message says why."""


class StreamState(msgspec.Struct, frozen=True):
    """The content of a stream: the number of its messages, their sequences, their bytes before compression."""

    messages: int
    bytes: int
    first_seq: int
    last_seq: int


class _Answer(msgspec.Struct):
    error: ApiError | None = None
    config: dict[str, Any] | None = None
    state: StreamState | None = None
    deliver_subject: str = ""
    consumers: list[str] | None = None


async def state_of(connection: Connection, stream: str) -> StreamState | None:
    """The state of the stream now; None where it does not exist. Raises `SnapshotFailed`."""
    answer = await _request(connection, f"$JS.API.STREAM.INFO.{stream}", b"")
    if answer.error is not None and answer.error.err_code == NOT_FOUND:
        return None
    return _checked(answer, stream).state


async def take_snapshot(
    connection: Connection, stream: str, sink: BinaryIO, advance: Callable[[int], None]
) -> tuple[dict[str, Any], StreamState]:
    """Write the stream, with its durable consumers, into `sink`; returns its configuration and state.

    The broker checks every message's checksum first. `advance` receives each chunk's bytes. Raises `SnapshotFailed`.
    """
    chunks: asyncio.Queue[Msg] = asyncio.Queue()
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, cb=chunks.put)
    try:
        request = msgspec.json.encode({"deliver_subject": inbox, "chunk_size": CHUNK_BYTES, "jsck": True})
        answer = _checked(await _request(connection, f"$JS.API.STREAM.SNAPSHOT.{stream}", request), stream)
        async with asyncio.timeout(None) as patience:
            while True:
                patience.reschedule(asyncio.get_running_loop().time() + BROKER_TIMEOUT_SECONDS)
                chunk = await chunks.get()
                if not chunk.data:
                    break
                sink.write(chunk.data)
                advance(len(chunk.data))
                if chunk.reply:
                    await connection.publish(chunk.reply, b"")
    except TimeoutError as error:
        raise SnapshotFailed(f"the broker stopped in the middle of stream {stream}") from error
    except NatsError as error:
        raise SnapshotFailed(f"the broker was lost in the middle of stream {stream}: {error}") from error
    finally:
        await subscription.unsubscribe()
    status = (chunk.headers or {}).get("Status", ALL_SENT)
    if status != ALL_SENT:
        raise SnapshotFailed(f"the broker broke off in the middle of stream {stream} with status {status}")
    assert answer.config is not None and answer.state is not None
    return answer.config, answer.state


async def restore_snapshot(
    connection: Connection,
    config: dict[str, Any],
    state: StreamState,
    source: Iterable[bytes],
    advance: Callable[[int], None],
) -> None:
    """Create a stream of `config` from the pieces of a snapshot; it must not exist yet. Raises `SnapshotFailed`."""
    stream = config["name"]
    request = msgspec.json.encode({"config": config, "state": state})
    begun = _checked(await _request(connection, f"$JS.API.STREAM.RESTORE.{stream}", request), stream)
    for chunk in source:
        _checked(await _request(connection, begun.deliver_subject, chunk), stream)
        advance(len(chunk))
    _checked(await _request(connection, begun.deliver_subject, b""), stream)
    found = await state_of(connection, stream)
    complete = found is not None and (found.messages, found.last_seq) == (state.messages, state.last_seq)
    if not complete and not config.get("max_age"):  # a message with an expiry may have expired
        raise SnapshotFailed(f"the broker took stream {stream}, but not all of it: {found} instead of {state}")


async def consumers_of(connection: Connection, stream: str) -> list[str]:
    """The names of the stream's consumers, which a snapshot includes. Raises `SnapshotFailed`."""
    answer = _checked(await _request(connection, f"$JS.API.CONSUMER.NAMES.{stream}", b""), stream)
    return list(answer.consumers or ())


async def remove_consumer(connection: Connection, stream: str, consumer: str) -> None:
    """Delete a consumer. Raises `SnapshotFailed`."""
    _checked(await _request(connection, f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}", b""), stream)


async def _request(connection: Connection, subject: str, request: bytes) -> _Answer:
    try:
        reply = await connection.unless_denied(connection.request(subject, request, timeout=BROKER_TIMEOUT_SECONDS))
    except Denied as denied:
        raise SnapshotFailed(
            "these credentials may not ask for snapshots; where --data holds the broker's own, name it without any"
        ) from denied
    except NatsError as error:
        raise SnapshotFailed("the broker does not answer") from error
    return msgspec.json.decode(reply.data, type=_Answer) if reply.data else _Answer()


def _checked(answer: _Answer, stream: str) -> _Answer:
    if answer.error is not None:
        raise SnapshotFailed(f"the broker refuses with stream {stream}: {answer.error.description}")
    return answer
