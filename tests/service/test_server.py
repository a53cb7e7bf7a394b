"""The server answers every request: at once when it is full, also when an endpoint fails, and while it drains."""

import asyncio
import io
import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from events import bus, stream
from service import server as server_module
from service.client_authentication import ClientAuthentication
from service.context import Context
from service.errors import OAuthError
from service.journal import Journal
from service.request import Request
from service.server import Server
from service.skew import Skew
from tests.broker import Broker

SECRET = "hrt_" + "s" * 69


async def _serving(nats_server: Broker, out: io.BytesIO) -> tuple[Server, bus.Connection, bus.Connection]:
    serving = await bus.connect(nats_server.url, "service")
    asking = await bus.connect(nats_server.url, "client")
    await stream.ensure(asking, stream.Required())
    nobody = cast("Any", None)  # the endpoints of these tests need neither log nor registry
    context = cast("Context", SimpleNamespace(skew=Skew()))
    await context.skew.measure(asking)
    server = Server(serving, context, cast("ClientAuthentication", nobody), Journal(out), "0.0.0")
    await server.start()
    await serving.flush()  # the broker knows of it before anybody asks
    return server, serving, asking


async def _ask(connection: bus.Connection) -> tuple[dict[str, Any], dict[str, str]]:
    reply = await connection.request("oauth.acme.client.web.token", b"{}", timeout=5)
    return json.loads(reply.data), reply.headers or {}


async def test_a_full_server_refuses_at_once_and_drains_the_rest(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two under way a third is `temporarily_unavailable` at once; a drain answers the two."""
    release, working = asyncio.Event(), asyncio.Semaphore(0)

    async def slow(_context: Context, _request: Request) -> bytes:
        working.release()
        await release.wait()
        return b'{"done": true}'

    monkeypatch.setattr(server_module, "IN_FLIGHT", 2)
    monkeypatch.setitem(server_module.ENDPOINTS, "token", ("oauth.*.client.*.token", slow))
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    two = [asyncio.create_task(_ask(asking)) for _ in range(2)]
    async with asyncio.timeout(10):
        for _ in two:
            await working.acquire()
    refused, headers = await _ask(asking)
    assert refused["error"] == headers["Nats-Service-Error"] == "temporarily_unavailable"
    assert headers["Nats-Service-Error-Code"] == "503"
    draining = asyncio.create_task(server.drain())
    release.set()
    await draining
    assert [body for body, _ in await asyncio.gather(*two)] == [{"done": True}] * 2
    await serving.close()
    await asking.close()


async def test_what_nobody_foresaw_is_a_server_error_without_details(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears `server_error`; the log names the place, and neither repeats the token it choked on."""

    async def broken(_context: Context, _request: Request) -> bytes:
        raise RuntimeError(f"cannot work on {SECRET}")

    monkeypatch.setitem(server_module.ENDPOINTS, "token", ("oauth.*.client.*.token", broken))
    out = io.BytesIO()
    journal = Journal(out)
    server_module.log.addHandler(journal)
    try:
        server, serving, asking = await _serving(nats_server, out)
        body, headers = await _ask(asking)
        await server.drain()
    finally:
        server_module.log.removeHandler(journal)
    journal.flush()
    await serving.close()
    await asking.close()
    assert body["error"] == headers["Nats-Service-Error"] == "server_error"
    written = out.getvalue().decode()
    assert "test_server.py" in written and "RuntimeError" in written
    assert SECRET not in written and SECRET not in body["error_description"]


async def test_an_answer_too_large_for_a_message_is_a_server_error(
    nats_server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller hears so at once, and the figures count no success."""

    async def endless(_context: Context, _request: Request) -> bytes:
        return b"x" * (serving.max_payload + 1)

    monkeypatch.setitem(server_module.ENDPOINTS, "token", ("oauth.*.client.*.token", endless))
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    body, headers = await _ask(asking)
    assert body == {"error": "server_error", "error_description": "the answer is too large for one message"}
    assert (headers["Nats-Service-Error"], headers["Nats-Service-Error-Code"]) == ("server_error", "503")
    await server.drain()
    assert {outcome: times.count for outcome, times in server.figures["token"].outcomes.items()} == {
        "ok": 0,
        "server_error": 1,
    }
    await serving.close()
    await asking.close()


async def test_statistics_are_of_whole_requests(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nats micro stats` tells how many there were, how many were refused, and how long they took until the reply."""
    first = True

    async def refuses_the_first(_context: Context, _request: Request) -> bytes:
        nonlocal first
        if first:
            first = False
            raise OAuthError("invalid_grant", "not this one")
        await asyncio.sleep(0.002)
        return b"{}"

    monkeypatch.setitem(server_module.ENDPOINTS, "token", ("oauth.*.client.*.token", refuses_the_first))
    server, serving, asking = await _serving(nats_server, io.BytesIO())
    answers = [await _ask(asking) for _ in range(3)]
    await server.settled()  # what is answered is counted a moment later
    told = json.loads((await asking.request("$SRV.STATS.heirloom", timeout=5)).data)
    [token] = [endpoint for endpoint in told["endpoints"] if endpoint["name"] == "token"]
    await server.drain()
    await serving.close()
    await asking.close()
    assert [body.get("error") for body, _ in answers] == ["invalid_grant", None, None]
    assert (token["num_requests"], token["num_errors"]) == (3, 1)
    assert token["processing_time"] >= 2 * 2_000_000  # nanoseconds, and both slept for two million
    assert token["average_processing_time"] == pytest.approx(token["processing_time"] / 3, abs=1)
    assert token["data"]["answered"] == 3
