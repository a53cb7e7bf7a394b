"""The server answers every request: at once when it is full, also when an endpoint fails, and while it drains."""

import asyncio
import io
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest

from events.bus.connect import connect
from events.bus.connection import Connection
from events.fairness.fair_queue import Limits, Requester
from events.log import stream
from events.task_set import TaskSet
from service import received_request, refusal, request_handler
from service.accounts import ANYBODY, AccountConnection
from service.clients.authentication import ClientAuthentication
from service.context import Context
from service.endpoints import endpoint_table
from service.errors import OAuthError
from service.json_log import JsonLog
from service.received_request import Endpoint
from service.refusal import too_many
from service.replicas.broker_clock import Skew
from service.request import Request
from service.request_handler import RequestHandler
from service.request_rates import EDGE, PUBLIC
from service.server import LOOKS, Server
from tests.broker import Broker

SECRET = "hrt_" + "s" * 69


class _Rates:
    """Admits everybody but the client `often`; nobody is alone."""

    def alone(self) -> None:
        return None

    def client(self, tenant: str, client_id: str) -> Requester:
        if client_id == "often":
            raise too_many("client")
        return tenant, client_id

    def edge(self, tenant: str) -> Requester:
        return tenant, EDGE

    def public(self, tenant: str) -> Requester:
        return tenant, PUBLIC


class _Authentication:
    """Accepts the client that a request names."""

    async def authenticate(self, request: Request, _endpoint: str) -> Request:
        return request._replace(client_id=request.body.decode())


class Serving(NamedTuple):
    """A server and its handler."""

    server: Server
    handler: RequestHandler

    async def drain(self) -> None:
        await self.server.drain()


async def _serving(nats_server: Broker, out: io.BytesIO) -> tuple[Serving, Connection, Connection]:
    serving = await connect(nats_server.url, "service")
    asking = await connect(nats_server.url, "client")
    await stream.ensure(asking, stream.Required())
    context = cast(
        "Context", SimpleNamespace(rates=_Rates(), skew=Skew())
    )  # these endpoints need neither log nor registry
    await context.skew.measure(asking)
    answering, authentication = [AccountConnection(serving, ANYBODY)], cast("ClientAuthentication", _Authentication())
    handler = RequestHandler(context, authentication, JsonLog(out), TaskSet())
    server = Server(answering, handler, "0.0.0")
    await server.start()
    await serving.flush()  # the broker knows the subscription before anybody asks
    return Serving(server, handler), serving, asking


async def _ask(
    connection: Connection, subject: str = "client.web.token", body: bytes = b"{}"
) -> tuple[dict[str, Any], dict[str, str]]:
    reply = await connection.request(f"oauth.acme.{subject}", body, timeout=5)
    return json.loads(reply.data), reply.headers or {}


class _Slow:
    """An endpoint that reports each request that begins, and finishes one for each release of `go`."""

    def __init__(self) -> None:
        self.began: asyncio.Queue[str] = asyncio.Queue()
        self.go = asyncio.Semaphore(0)

    async def __call__(self, _context: Context, request: Request) -> bytes:
        self.began.put_nowait(request.client_id)
        await self.go.acquire()
        return b'{"done": true}'


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> _Slow:
    """The endpoint `token` works on two requests at once; at most two of each client wait."""
    slow = _Slow()
    limits = Limits(at_once=2, of_tenant=2, of_client=2, waiting=4, waiting_of_tenant=4, waiting_of_client=2)
    monkeypatch.setattr(request_handler, "WRITES", limits)
    _answer_by(monkeypatch, slow)
    return slow


def _answer_by(monkeypatch: pytest.MonkeyPatch, endpoint: Endpoint) -> None:
    monkeypatch.setitem(endpoint_table.ENDPOINTS, "token", endpoint_table.ENDPOINTS["token"]._replace(handle=endpoint))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_full_server_refuses_at_once_and_drains_the_rest(nats_server: Broker, slow: _Slow) -> None:
    """With two under way and two waiting a fifth is `temporarily_unavailable` at once; a drain answers the four."""
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    four = [asyncio.create_task(_ask(asking)) for _ in range(4)]
    await _until(lambda: server.handler.waiting == slow.began.qsize() == 2)
    assert server.handler.in_flight == 2
    refused, headers = await _ask(asking)
    assert refused["error"] == headers["Nats-Service-Error"] == "temporarily_unavailable"
    assert headers["Nats-Service-Error-Code"] == "503"
    draining = asyncio.create_task(server.drain())
    for _ in four:
        slow.go.release()
    await draining
    assert [body for body, _ in await asyncio.gather(*four)] == [{"done": True}] * 4
    assert server.handler.in_flight == server.handler.waiting == 0
    await serving.close()
    await asking.close()


async def test_a_request_that_arrives_during_a_drain_is_answered(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker chose this replica before the drain began; such requests may arrive until its very end."""

    async def endpoint(_context: Context, _request: Request) -> bytes:
        await asyncio.sleep(0.02)
        return b"{}"

    _answer_by(monkeypatch, endpoint)
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    inbox, take = asking.new_inbox(), next(iter(serving.raw_handlers.values()))
    answers = await asking.subscribe(inbox)
    await asking.flush()
    flush, late = serving.flush, LOOKS + len(ANYBODY.rows) + 4
    sent = late

    async def flush_and_receive(*arguments: Any) -> None:
        nonlocal late
        await flush(*arguments)
        if late:
            late -= 1
            take(b"oauth.acme.client.web.token", inbox.encode(), b"{}", None)

    monkeypatch.setattr(serving, "flush", flush_and_receive)
    await server.drain()
    assert (late, server.handler.in_flight, server.handler.waiting) == (0, 0, 0)
    for _ in range(sent):
        assert (await answers.next_msg(5)).data == b"{}"
    await serving.close()
    await asking.close()


async def test_one_client_does_not_delay_another(nats_server: Broker, slow: _Slow) -> None:
    """During a flood another client's request is the next but one, on the bus and through an edge."""
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    flood = [asyncio.create_task(_ask(asking)) for _ in range(4)]
    await _until(lambda: server.handler.waiting == 2)
    quiet = [asyncio.create_task(_ask(asking, "client.quiet.token"))]
    await _until(lambda: server.handler.waiting == 3)
    began = []
    for _ in range(2):
        slow.go.release()
        began += [await slow.began.get()]
    quiet += [asyncio.create_task(_ask(asking, "edge.token", b"browser"))]
    for _ in range(4):
        slow.go.release()
        began += [await slow.began.get()]
    assert began == ["web", "web", "web", "quiet", "web", "browser"]
    await asyncio.gather(*flood, *quiet)
    await serving.close()
    await asking.close()


async def test_a_request_through_an_edge_counts_as_its_clients(
    nats_server: Broker, slow: _Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests through an edge and its own share one queue, and take no turn of another client."""
    limits = Limits(at_once=4, of_tenant=4, of_client=2, waiting=4, waiting_of_tenant=4, waiting_of_client=2)
    monkeypatch.setattr(request_handler, "WRITES", limits)
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    flood = [asyncio.create_task(_ask(asking, "edge.token", b"web")) for _ in range(4)]
    await _until(lambda: server.handler.waiting == 2)
    assert {(await _ask(asking))[0]["error"], (await _ask(asking, "edge.token", b"web"))[0]["error"]} == {
        "temporarily_unavailable"
    }
    settling = asyncio.create_task(
        server.handler.settled()
    )  # already authenticated ones may wait, and are at work all the same
    for _ in range(3):
        slow.go.release()
    await _until(lambda: slow.began.qsize() == 4)
    assert not settling.done()
    slow.go.release()
    await asyncio.gather(*flood, settling)
    await serving.close()
    await asking.close()


async def test_a_request_that_waited_too_long_is_refused(
    nats_server: Broker, slow: _Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log hangs, all waiting requests are refused together, and not one batch after another."""
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    two = [asyncio.create_task(_ask(asking)) for _ in range(2)]
    await _until(lambda: slow.began.qsize() == 2)
    others = [asyncio.create_task(_ask(asking)) for _ in range(2)]
    await _until(lambda: server.handler.waiting == 2)
    monkeypatch.setattr(received_request, "WAIT_SECONDS", 0.0)
    slow.go.release()
    refused = await asyncio.gather(*others)
    assert {body["error"] for body, _ in refused} == {"temporarily_unavailable"} and slow.began.qsize() == 2
    slow.go.release()
    assert [body for body, _ in await asyncio.gather(*two)] == [{"done": True}] * 2
    await server.drain()
    await serving.close()
    await asking.close()


async def test_a_request_beyond_the_rate_is_refused_undecoded(
    nats_server: Broker, slow: _Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`slow_down`, before its headers or body are decoded, and without a line in the request log."""
    out = io.BytesIO()
    server, serving, asking = await _serving(nats_server, out)

    def unreadable(_lines: bytes | None) -> dict[str, str]:
        raise AssertionError("headers were read")

    monkeypatch.setattr(serving, "headers_of", unreadable)
    reply = await asking.request("oauth.acme.client.often.token", b"{", headers={"A": "b"}, timeout=5)
    assert json.loads(reply.data)["error"] == "slow_down"
    assert (reply.headers or {})["Nats-Service-Error-Code"] == "429"
    await server.drain()
    assert server.handler.figures["token"].outcomes["slow_down"].count == 1
    server.handler._json_log.flush()
    assert out.getvalue() == b"" and slow.began.empty()
    await serving.close()
    await asking.close()


async def test_malformed_headers_are_refused(nats_server: Broker, slow: _Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """`invalid_request`, and the place in the queue is free again."""
    server, serving, asking = await _serving(nats_server, io.BytesIO())

    def unreadable(_lines: bytes | None) -> dict[str, str]:
        raise ValueError

    monkeypatch.setattr(serving, "headers_of", unreadable)
    for _ in range(5):
        reply = await asking.request("oauth.acme.client.web.token", b"{}", headers={"A": "b"}, timeout=5)
        assert json.loads(reply.data)["error"] == "invalid_request"
    assert server.handler.in_flight == 0 and slow.began.empty()
    await server.drain()
    await serving.close()
    await asking.close()


async def test_an_unexpected_error_is_a_server_error_without_details(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log names the place in the code; neither the reply nor the log contains the token."""

    async def broken(_context: Context, _request: Request) -> bytes:
        raise RuntimeError(f"cannot work on {SECRET}")

    _answer_by(monkeypatch, broken)
    out = io.BytesIO()
    json_log = JsonLog(out)
    refusal.log.addHandler(json_log)
    try:
        server, serving, asking = await _serving(nats_server, out)
        body, headers = await _ask(asking)
        await server.drain()
    finally:
        refusal.log.removeHandler(json_log)
    json_log.flush()
    await serving.close()
    await asking.close()
    assert body["error"] == headers["Nats-Service-Error"] == "server_error"
    written = out.getvalue().decode()
    assert "test_server.py" in written and "RuntimeError" in written
    assert SECRET not in written and SECRET not in body["error_description"]


async def test_an_answer_too_large_for_a_message_is_a_server_error(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply comes at once, and the statistics count no success."""

    async def endless(_context: Context, _request: Request) -> bytes:
        return b"x" * (serving.max_payload + 1)

    _answer_by(monkeypatch, endless)
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    body, headers = await _ask(asking)
    assert body == {"error": "server_error", "error_description": "the answer is too large for one message"}
    assert (headers["Nats-Service-Error"], headers["Nats-Service-Error-Code"]) == ("server_error", "503")
    await server.drain()
    assert {outcome: times.count for outcome, times in server.handler.figures["token"].outcomes.items()} == {
        "ok": 0,
        "server_error": 1,
    }
    await serving.close()
    await asking.close()


async def test_statistics_are_of_whole_requests(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nats micro stats` has the number of requests, of refusals, and the time until the reply."""
    first = True

    async def refuses_the_first(_context: Context, _request: Request) -> bytes:
        nonlocal first
        if first:
            first = False
            raise OAuthError("invalid_grant", "not this one")
        await asyncio.sleep(0.002)
        return b"{}"

    _answer_by(monkeypatch, refuses_the_first)
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    answers = [await _ask(asking) for _ in range(3)]
    await server.handler.settled()  # a reply is counted a moment later
    stats = json.loads((await asking.request("$SRV.STATS.heirloom", timeout=5)).data)
    [token] = [endpoint for endpoint in stats["endpoints"] if endpoint["name"] == "token"]
    await server.drain()
    await serving.close()
    await asking.close()
    assert [body.get("error") for body, _ in answers] == ["invalid_grant", None, None]
    assert (token["num_requests"], token["num_errors"]) == (3, 1)
    assert token["processing_time"] >= 2 * 2_000_000  # nanoseconds, and both slept for two million
    assert token["average_processing_time"] == pytest.approx(token["processing_time"] / 3, abs=1)
    assert token["data"]["answered"] == 3
