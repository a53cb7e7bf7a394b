"""The streams of the log and of its checkpoints, and a log from before there were two."""

import msgspec
import pytest
from nats.errors import Error as NatsError

from events import bus, stream
from events.subjects import CHECKPOINT, CHECKPOINTS, STREAM
from tests.broker import Broker


async def test_a_log_from_before_makes_room_for_checkpoints(nats_server: Broker) -> None:
    """Its subjects are narrowed, it keeps what it holds, and checkpoints go into their own stream."""
    connection = await bus.connect(nats_server.url, "test")
    jetstream = connection.jetstream()
    await _make_as_before(connection)
    await jetstream.publish("tokens.acme.tenant", b"")
    await stream.ensure(connection, stream.Required())
    await jetstream.publish(CHECKPOINT, b"")
    assert await stream.last_sequence(connection) == await stream.last_sequence(connection, CHECKPOINTS) == 1
    with pytest.raises(NatsError):  # it is no longer the log's, and cannot be published past the other stream
        await jetstream.publish(CHECKPOINT, b"", stream=STREAM)
    await connection.close()


async def test_a_log_that_holds_checkpoints_is_refused(nats_server: Broker) -> None:
    """They cannot be taken out, and would be no commits."""
    connection = await bus.connect(nats_server.url, "test")
    await _make_as_before(connection)
    await connection.jetstream().publish(CHECKPOINT, b"")
    with pytest.raises(stream.WeakStream, match="checkpoints lie among its commits"):
        await stream.ensure(connection, stream.Required())
    await connection.close()


@pytest.mark.parametrize("name", [STREAM, CHECKPOINTS])
async def test_a_log_compressed_before_is_compressed_no_more(
    nats_server: Broker, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A cold read of a compressed block costs the broker 10 ms, every time; who starts the service is told (ADR 35)."""
    connection = await bus.connect(nats_server.url, "test")
    before = stream.configuration(stream.Required(), name) | {"compression": "s2"}
    await connection.request(f"$JS.API.STREAM.CREATE.{name}", msgspec.json.encode(before))
    await connection.jetstream().publish(before["subjects"][0].replace(">", "acme.tenant").replace("*", "acme"), b"")
    await stream.ensure(connection, stream.Required())
    await stream.ensure(connection, stream.Required())
    info = await connection.jetstream().stream_info(name)
    assert (info.config.compression, info.state.messages) == ("none", 1)
    assert [(record.message, record.__dict__["stream"]) for record in caplog.records] == [
        (stream.COMPRESSED_BEFORE, name)
    ]
    await connection.close()


async def _make_as_before(connection: bus.Connection) -> None:
    configuration = stream.configuration(stream.Required()) | {"subjects": stream.BEFORE_CHECKPOINTS}
    await connection.request(f"$JS.API.STREAM.CREATE.{STREAM}", msgspec.json.encode(configuration))
