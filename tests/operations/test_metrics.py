"""Metrics and health, as Prometheus and an orchestrator see them."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from heirloom.cli.main import main
from heirloom.data_directory import DataDirectory
from heirloom.metrics import http
from heirloom.metrics.http import MAX_CONNECTIONS, ProcessAnswer, rendered
from heirloom.process.process_report import ProcessReport, Sample, counter, gauge, only
from tests.operations.http import Response, get, metrics, total
from tests.paused import paused
from tests.system.service import Service

PROCESSES = {"broker", "replica-1", "replica-2", "projector", "publisher", "notary"}
LABELS = {"process", "version", "endpoint", "outcome", "kind", "credential", "reason", "le", "stream"}
"""Labels with a bounded number of values."""


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Poll until it holds."""
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_decisions_are_counted(service: Service) -> None:
    """Issued, redeemed, rotated, reused, revoked: once each over all replicas, by Prometheus' conventions."""
    before = await metrics(service)
    async with service.client() as web:
        first = await web.issue()
        second = await web.refresh(first["refresh_token"], key="k")
        await web.refresh(second["refresh_token"])
        assert (await web.refresh(first["refresh_token"], key="k"))["error"] == "invalid_grant"
        assert (await web.refresh(first["refresh_token"]))["error"] == "invalid_grant"
    after = await metrics(service)

    def grew(name: str, **labels: str) -> float:
        return total(after, f"heirloom_{name}", **labels) - total(before, f"heirloom_{name}", **labels)

    assert grew("tokens_issued_total", kind="refresh") == 3
    assert grew("tokens_issued_total", kind="access") == 3
    assert grew("tokens_redeemed_total", credential="refresh_token") == 2
    assert grew("tokens_rotated_total") == 2
    assert grew("reuse_detected_total") == 1
    assert grew("late_duplicates_total") == 1
    assert grew("families_revoked_total", reason="reuse_detected") == 1
    assert grew("append_batch_commits_sum") >= 4
    assert total(after, "heirloom_request_duration_seconds_count", endpoint="token", outcome="invalid_grant") >= 1
    assert total(after, "heirloom_process_up") == len(PROCESSES)
    assert total(after, "heirloom_checkpoint_age_seconds") < 60
    for family in after.values():
        assert family.type in ("counter", "gauge", "histogram")
        assert family.documentation.endswith(".")
        assert all(sample.labels.keys() <= LABELS for sample in family.samples)
    assert {sample.labels["process"] for sample in after["heirloom_process_up"].samples} == PROCESSES


def test_one_family_of_many_processes() -> None:
    """Samples of several processes share one HELP and TYPE; a process without a report is down."""
    lag = gauge("lag", "Behind.", only(3))
    done = counter("done", "Done.", Sample({"reason": 'a "quoted" one'}, 1))
    text = rendered(
        [
            ProcessAnswer("a", ProcessReport((lag, done))),
            ProcessAnswer("b", ProcessReport((lag,), ("it lags",))),
            ProcessAnswer("c", None),
        ]
    ).decode()
    assert text.count("# HELP heirloom_lag Behind.\n# TYPE heirloom_lag gauge\n") == 1
    assert 'heirloom_lag{process="a"} 3.0\nheirloom_lag{process="b"} 3.0\n' in text
    assert 'heirloom_done_total{process="a",reason="a \\"quoted\\" one"} 1.0\n' in text
    assert 'heirloom_process_up{process="c"} 0.0\n' in text
    assert 'heirloom_process_ready{process="b"} 0.0\n' in text


async def test_health_names_the_obstacle(service: Service) -> None:
    """A stuck process is not live; without a broker no process is ready; both recover."""
    (projector,) = service.pids("heirloom.projector")
    await until(lambda: _is(service, "/readyz", 200))
    with paused(projector):
        stuck = await get(service, "/livez")
    assert (stuck.status, list(stuck.json["obstacles"])) == (503, ["projector"])
    (broker,) = service.pids("nats-server")
    with paused(broker):
        live, ready = await asyncio.gather(get(service, "/livez"), get(service, "/readyz"))
    assert live.status == 200  # waiting for the broker is not being stuck
    assert ready.status == 503
    assert "the log's leader does not answer" in ready.json["obstacles"]["replica-1"]
    assert "the log's leader does not answer" in ready.json["obstacles"]["projector"]
    await until(lambda: _is(service, "/readyz", 200))
    assert (await get(service, "/else")).status == 404


async def _is(service: Service, path: str, status: int) -> bool:
    told: Response = await get(service, path)
    return told.status == status


def test_an_address_that_is_not_available(tmp_path: Path) -> None:
    """One line before anything is started; a malformed one is a usage error."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["up", "--data", str(tmp_path / "d"), "--port", "0", "--metrics", port])
    assert (result.exit_code, result.output.count("\n")) == (1, 1)
    assert "cannot be told on 127.0.0.1" in result.output
    assert CliRunner().invoke(main, ["up", "--metrics", "nowhere"]).exit_code == 2


async def test_silent_connections_block_nobody(service: Service) -> None:
    """933 of them once held a thread each, as long as they sent a byte now and then."""
    host, _, port = json.loads(DataDirectory(service.data).run_file.read_text())["metrics"].rpartition(":")
    silent = []
    threads = _threads(service)
    for number in range(4 * MAX_CONNECTIONS):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /metrics HTTP/1.1\r\nX-Slow: " if number % 2 else b"")
        silent.append((reader, writer))
    for path in ("/livez", "/metrics", "/readyz"):
        assert (await get(service, path)).status == 200
    assert _threads(service) < threads + MAX_CONNECTIONS, "a thread for each; the pool for files may have grown"
    for _, writer in silent:
        writer.close()


async def test_a_slow_request_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is for the whole request, not for each byte."""
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_SECONDS", 0.3)
    async with http.observed("127.0.0.1", 0, []) as address, asyncio.timeout(20):
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"G")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()


def _threads(service: Service) -> int:
    """The number of threads of `heirloom up` itself."""
    return len(list(Path(f"/proc/{service._process.pid}/task").iterdir()))


async def test_malformed_requests_for_metrics(service: Service) -> None:
    """Refused or closed at once; the next request is answered."""
    host, _, port = json.loads(DataDirectory(service.data).run_file.read_text())["metrics"].rpartition(":")
    for sent, begins in (
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET /\xff\x00 HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
        (b"\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET /metrics?a=b HTTP/1.0\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 "),
        (b"GET /" + b"a" * 40_000, b""),
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        came = b""
        with contextlib.suppress(ConnectionError):
            came = await reader.read()
        assert came[: len(begins)] == begins
        assert bool(came) == bool(begins)
        writer.close()
    assert (await get(service, "/livez")).status == 200
