"""A log that grows too large for a quick restart is warned of: in the replicas' logs, by `/readyz`, and by metrics."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from events.bus.connect import connect
from events.log import stream
from events.log.jetstream_api import Unavailable
from events.log.stream import StreamSize
from heirloom.metrics import http, log_size
from heirloom.metrics.log_size import MAX_INDEXED_SUBJECTS, WARNING_SUBJECTS, warning, watch
from heirloom.process.child_process import Child, Program
from heirloom.process.process_report import ProcessReport
from service.replicas.book_keeper import BookLimits
from tests.broker import Broker
from tests.operations.http import get, metrics, total
from tests.system.service import Service


def test_a_book_that_is_not_closed_is_warned_of() -> None:
    """Not while it is closed by itself at the subjects that nats-server indexes as it goes."""
    assert BookLimits().subjects == MAX_INDEXED_SUBJECTS
    assert warning(StreamSize(9_000_000, WARNING_SUBJECTS, 1)) is None
    told = warning(StreamSize(2_000_000, WARNING_SUBJECTS + 1, 1))
    assert told is not None and "1,100,001 subjects, more than 1,000,000: a broker" in told and "log close" in told


async def test_a_warning_is_logged_again_as_the_log_grows(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By a tenth each time; a log without a leader is none of its concern."""
    monkeypatch.setattr(log_size, "CHECK_SECONDS", 0)
    subjects: Iterator[int | None] = iter([10, None, 1_200_000, 1_200_001, 1_319_999, 1_320_000, 1_320_001])
    ended = asyncio.Event()

    async def size() -> StreamSize:
        match next(subjects, "none"):
            case int(count):
                return StreamSize(count, count, 1)
            case "none":
                ended.set()
                await asyncio.Event().wait()
        raise Unavailable("no leader")

    with caplog.at_level(logging.WARNING, "heirloom.replica"):
        watching = asyncio.create_task(watch(size))
        await asyncio.wait_for(ended.wait(), 10)
        watching.cancel()
    assert [record.getMessage().split()[5] for record in caplog.records] == ["1,200,000", "1,320,000"]


async def test_the_size_of_a_stream_is_the_brokers(nats_server: Broker) -> None:
    """Messages, subjects, and bytes."""
    connection = await connect(nats_server.url, "test")
    await stream.ensure(connection, stream.Required())
    assert await stream.size(connection) == (0, 0, 0)
    for subject in ("tokens.acme.tenant", "tokens.acme.client.web", "tokens.acme.tenant"):
        await connection.jetstream().publish(subject, bytes(1000))
    messages, subjects, size = await stream.size(connection)
    assert (messages, subjects) == (3, 2)
    assert 3_000 < size < 4_000
    await connection.close()


class Warned(Child):
    """A process that is ready, and has a warning."""

    @property
    def is_running(self) -> bool:
        return True

    async def request_report(self, seconds: float) -> ProcessReport | None:
        return ProcessReport((), warnings=("it grows",))


async def test_who_is_ready_may_have_a_warning() -> None:
    """It says so, with 200."""
    children: list[Child] = [Warned(Program("replica", "replica 1", [], {}))]
    ready = await http._reply("/readyz", children)
    expected: dict[str, Any] = {"ready": True, "obstacles": {}, "warnings": {"replica-1": ["it grows"]}}
    assert (ready.status, msgspec.json.decode(ready.body)) == (200, expected)
    live = await http._reply("/livez", children)
    assert msgspec.json.decode(live.body) == {"live": True, "obstacles": {}}


async def test_the_size_of_the_log_is_measured(service: Service) -> None:
    """By each replica; a small log has no warning."""
    before = await metrics(service)
    async with service.client() as web:
        await web.issue()
    after = await metrics(service)
    for name in ("messages", "subjects"):
        grown = total(after, f"heirloom_log_{name}") - total(before, f"heirloom_log_{name}")
        assert grown == 2, "one family, at two replicas"
    assert total(after, "heirloom_log_bytes") > total(before, "heirloom_log_bytes") > 0
    assert (await get(service, "/readyz")).json["warnings"] == {}
