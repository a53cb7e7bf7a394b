"""What the reactor works on is nobody else's meanwhile."""

import pytest
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, StreamConfig

from events import bus
from service import reactor
from tests.broker import Broker


async def test_what_is_kept_is_not_handed_out_again(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes; afterwards, without an acknowledgement, the next replica gets it."""
    patience = 0.4
    monkeypatch.setattr(reactor, "ACK_WAIT_SECONDS", patience)
    connection = await bus.connect(nats_server.url, "test")
    try:
        jetstream = connection.jetstream()
        await jetstream.add_stream(StreamConfig(name="WORK", subjects=["work"]))
        await jetstream.add_consumer(
            "WORK", ConsumerConfig(durable_name="shared", ack_policy=AckPolicy.EXPLICIT, ack_wait=patience)
        )
        await jetstream.publish("work", b"a cut-off")
        one, other = [await jetstream.pull_subscribe_bind("shared", "WORK") for _ in range(2)]
        (message,) = await one.fetch(1, timeout=5)
        async with reactor._kept(message):
            with pytest.raises(NatsTimeoutError):
                await other.fetch(1, timeout=4 * patience)
        (again,) = await other.fetch(1, timeout=5)
        assert again.metadata.num_delivered == 2
    finally:
        await connection.close()
