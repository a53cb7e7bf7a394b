"""`/metrics`, `/livez` and `/readyz` of everything that `heirloom up` runs, on one HTTP port (ADR 0042).

Each process reports over a pipe (`heirloom.process.process_report`); this module combines the reports.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as Family

from heirloom import __version__
from heirloom.broker.run_file import address
from heirloom.process.child_process import Child
from heirloom.process.process_report import Metric, ProcessReport, Sample, gauge, only

LIVE_SECONDS = 2.0
"""A process whose event loop does not answer within that time is stuck."""

MAX_CONNECTIONS = 64
MAX_REQUEST = 8 << 10
"""Bytes of a request line and its headers."""
REQUEST_TIMEOUT_SECONDS = 3 * LIVE_SECONDS
"""For one request, from the connection to the last byte of the response."""


class CannotListen(Exception):
    """The address is in use, or is not one of this machine's."""


class ProcessAnswer(NamedTuple):
    """A process's answer: its report, or none because it does not run or is stuck."""

    process: str
    report: ProcessReport | None
    stuck: bool = False

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why the process is not ready, in words."""
        if self.stuck:
            return (f"it has not answered for {LIVE_SECONDS:g} s",)
        return ("it is not running",) if self.report is None else self.report.obstacles

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should see to soon, in words; it keeps nothing from being ready."""
        return () if self.report is None else self.report.warnings


class Reply(NamedTuple):
    """An HTTP response."""

    status: int
    content_type: str
    body: bytes


@asynccontextmanager
async def observed(host: str, port: int, children: list[Child]) -> AsyncIterator[str]:
    """Serve HTTP while the block runs, about the `children` as they are at each request; yields the address.

    Raises `CannotListen`.
    """
    connections = _Port(children)
    try:
        server = await asyncio.start_server(connections.serve, host, port, limit=MAX_REQUEST)
    except OSError as error:
        where, why = address(host, port), os.strerror(error.errno) if error.errno else str(error)
        raise CannotListen(f"metrics cannot be told on {where}: {why}; choose another") from error
    try:
        yield address(host, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        connections.close()
        await server.wait_closed()


class _Port:
    """Reads one request of each connection. Connections are few and short: the oldest is closed for a new one."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = children
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer, or close the connection after `REQUEST_TIMEOUT_SECONDS`."""
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next(iter(self._open))  # a proper scrape takes milliseconds
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                writer.write(_response(await self._answer(await reader.readuntil(b"\r\n\r\n"))))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            writer.transport.abort()
        finally:
            self._open.pop(writer, None)

    def close(self) -> None:
        """Abort all open connections."""
        for writer in self._open:
            writer.transport.abort()

    async def _answer(self, head: bytes) -> Reply:
        method, _, rest = head.partition(b" ")
        if method != b"GET":
            return Reply(405, "text/plain", b"there is nothing here but what GET gives\n")
        return await _reply(rest.partition(b" ")[0].partition(b"?")[0].decode("latin1"), self._children)


def _response(reply: Reply) -> bytes:
    """The response in HTTP/1.1, after which the connection is closed."""
    head = (
        f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\nContent-Type: {reply.content_type}\r\n"
        f"Content-Length: {len(reply.body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + reply.body


async def _reply(path: str, children: Sequence[Child]) -> Reply:
    match path:
        case "/metrics":
            return Reply(200, CONTENT_TYPE_LATEST, rendered(await _answers(children)))
        case "/livez":
            return _verdict("live", [answer for answer in await _answers(children) if answer.stuck], {})
        case "/readyz":
            answers = await _answers(children)
            warnings = {answer.process: answer.warnings for answer in answers if answer.warnings}
            return _verdict("ready", [answer for answer in answers if answer.obstacles], {"warnings": warnings})
        case _:
            return Reply(404, "text/plain", b"there are /metrics, /livez and /readyz\n")


def _verdict(what: str, against: list[ProcessAnswer], more: dict[str, object]) -> Reply:
    body = {what: not against, "obstacles": {answer.process: answer.obstacles for answer in against}} | more
    return Reply(503 if against else 200, "application/json", msgspec.json.encode(body) + b"\n")


async def _answers(children: Sequence[Child]) -> list[ProcessAnswer]:
    return list(await asyncio.gather(*(_answer_of(child) for child in children)))


async def _answer_of(child: Child) -> ProcessAnswer:
    name = child.name.removeprefix("the ").replace(" ", "-")
    if not child.reports:  # a broker; the processes that use it report whether it works
        return ProcessAnswer(name, ProcessReport(()) if child.is_running else None)
    try:
        return ProcessAnswer(name, await child.request_report(LIVE_SECONDS))
    except TimeoutError:
        return ProcessAnswer(name, None, stuck=True)


def rendered(answers: Sequence[ProcessAnswer]) -> bytes:
    """All metrics of all processes in Prometheus' text format, each sample with the label of its process."""
    families: dict[str, Family] = {}
    for metric, process in _metrics(answers):
        family = families.setdefault(metric.name, Family(metric.name, metric.help, metric.kind))
        for sample in metric.samples:
            _add(family, metric.name, sample, sample.labels | process)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families.values()))
    return generate_latest(registry)


def _metrics(answers: Sequence[ProcessAnswer]) -> Iterator[tuple[Metric, dict[str, str]]]:
    yield gauge("info", "Which Heirloom this is.", Sample({"version": __version__}, 1)), {}
    for answer in answers:
        process = {"process": answer.process}
        yield gauge("process_up", "Whether the process answers.", only(answer.report is not None)), process
        yield gauge("process_ready", "Whether nothing is in its way.", only(not answer.obstacles)), process
        for metric in answer.report.metrics if answer.report is not None else ():
            yield metric, process


def _add(family: Family, name: str, sample: Sample, labels: dict[str, str]) -> None:
    if family.type != "histogram":
        family.add_sample(f"{name}_total" if family.type == "counter" else name, labels, sample.value)
        return
    for bound, count in sample.buckets:
        family.add_sample(f"{name}_bucket", labels | {"le": bound}, count)
    family.add_sample(f"{name}_count", labels, sample.buckets[-1][1])
    family.add_sample(f"{name}_sum", labels, sample.value)


class _Collected(NamedTuple):
    families: Iterable[Family]

    def collect(self) -> Iterable[Family]:
        return self.families
