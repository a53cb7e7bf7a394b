"""`/metrics`, `/livez` and `/readyz` of everything `heirloom up` runs, on one HTTP port.

One process is asked over a pipe (`heirloom.report`); here the answers of all are put together.
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as Family

from heirloom import __version__
from heirloom.child import Child
from heirloom.report import Metric, Report, Sample, gauge, only
from heirloom.running import address

LIVE_SECONDS = 2.0
"""An event loop that does not come round in that time is stuck."""


class CannotListen(Exception):
    """The address is taken, or not ours."""


class Answer(NamedTuple):
    """What became of asking a process: its report; or none, because it is not there or because it is stuck."""

    process: str
    report: Report | None
    stuck: bool = False

    @property
    def obstacles(self) -> tuple[str, ...]:
        """Why it is not ready, in words."""
        if self.stuck:
            return (f"it has not answered for {LIVE_SECONDS:g} s",)
        return ("it is not running",) if self.report is None else self.report.obstacles


class Reply(NamedTuple):
    """To an HTTP request."""

    status: int
    content_type: str
    body: bytes


class _IPv6Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@asynccontextmanager
async def observed(host: str, port: int, children: list[Child]) -> AsyncIterator[str]:
    """Answer HTTP for as long as the block lasts, about the children there are then; gives the address.

    Raises `CannotListen`.
    """
    loop = asyncio.get_running_loop()

    def reply(path: str) -> Reply:
        return asyncio.run_coroutine_threadsafe(_reply(path, children), loop).result(2 * LIVE_SECONDS)

    try:
        server = (_IPv6Server if ":" in host else ThreadingHTTPServer)((host, port), partial(_Handler, reply))
    except OSError as error:
        where = address(host, port)
        raise CannotListen(f"metrics cannot be told on {where}: {error.strerror}; choose another") from error
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    serving.start()
    try:
        yield address(host, server.server_address[1])
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()


async def _reply(path: str, children: Sequence[Child]) -> Reply:
    match path:
        case "/metrics":
            return Reply(200, CONTENT_TYPE_LATEST, rendered(await _ask_all(children)))
        case "/livez":
            return _verdict("live", [answer for answer in await _ask_all(children) if answer.stuck])
        case "/readyz":
            return _verdict("ready", [answer for answer in await _ask_all(children) if answer.obstacles])
        case _:
            return Reply(404, "text/plain", b"there are /metrics, /livez and /readyz\n")


def _verdict(what: str, against: list[Answer]) -> Reply:
    body = {what: not against, "obstacles": {answer.process: answer.obstacles for answer in against}}
    return Reply(503 if against else 200, "application/json", msgspec.json.encode(body) + b"\n")


async def _ask_all(children: Sequence[Child]) -> list[Answer]:
    return list(await asyncio.gather(*(_ask(child) for child in children)))


async def _ask(child: Child) -> Answer:
    name = child.name.removeprefix("the ").replace(" ", "-")
    if not child.reports:  # a broker: whether it works, those who need it say
        return Answer(name, Report(()) if child.is_running else None)
    try:
        return Answer(name, await child.ask(LIVE_SECONDS))
    except TimeoutError:
        return Answer(name, None, stuck=True)


def rendered(answers: Sequence[Answer]) -> bytes:
    """All metrics of all processes in Prometheus' text format, each sample under the label of its process."""
    families: dict[str, Family] = {}
    for metric, process in _metrics(answers):
        family = families.setdefault(metric.name, Family(metric.name, metric.help, metric.kind))
        for sample in metric.samples:
            _add(family, metric.name, sample, sample.labels | process)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families.values()))
    return generate_latest(registry)


def _metrics(answers: Sequence[Answer]) -> Iterator[tuple[Metric, dict[str, str]]]:
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


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # for whoever connects and says nothing
    server_version, sys_version = "heirloom", ""

    def __init__(self, reply: Callable[[str], Reply], *arguments: Any) -> None:
        self._reply = reply
        super().__init__(*arguments)

    def do_GET(self) -> None:  # the library's name
        try:
            reply = self._reply(self.path.partition("?")[0])
        except TimeoutError:
            reply = Reply(503, "text/plain", b"heirloom up itself does not come round\n")
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Every scrape would be a line."""
