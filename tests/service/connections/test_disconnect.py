"""Which of the listed connections are ended; `security/test_connecting` tests that they end."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.clock import FOR_EVER
from service.connections import disconnect
from service.connections.disconnect import ASK, PAGE_SIZE, Listed, ServerConnections

ENABLED = datetime(2026, 11, 29, 12, 0, 5, 999999, tzinfo=UTC)


class Broker:
    """One server that records which connections it was told to end."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[str, datetime]] = {}
        self.ended: list[int] = []
        self.sweeps = 0
        self.void: dict[tuple[str, str], datetime] = {}
        self.receivers: dict[str, Any] = {}
        registry = SimpleNamespace(void_until=lambda *who: self.void.get(who))
        self.connections = ServerConnections(cast("Any", self), cast("Any", registry))

    def new_inbox(self) -> str:
        return "_INBOX.x"

    async def subscribe(self, subject: str, cb: Any) -> None:
        self.receivers[subject] = cb

    async def publish(self, subject: str, body: bytes, reply: str) -> None:
        """Answer a listing request by a page, and carry out a kick."""
        asked = json.loads(body)
        if subject == "$SYS.REQ.SERVER.one.KICK":
            self.ended.append(asked["cid"])
            del self.open[asked["cid"]]
            return
        assert subject == ASK
        self.sweeps += "user" in asked
        found = [cid for cid in sorted(self.open) if asked.get("user") in (None, self.open[cid][0])]
        page = found[asked.get("offset", 0) :][: asked["limit"]]
        # as nats-server formats time, to the nanosecond
        connections = [
            {"cid": cid, "authorized_user": self.open[cid][0], "start": f"{self.open[cid][1]:%Y-%m-%dT%H:%M:%S.%f}789Z"}
            for cid in page
        ]
        data = json.dumps({"server": {"id": "one"}, "data": {"connections": connections}}).encode()
        kind = "end.>" if "user" in asked else "list.*"
        await self.receivers[f"_INBOX.x.{kind}"](SimpleNamespace(subject=reply, data=data))

    async def swept(self) -> None:
        """Return when no connection is left to be ended."""
        async with asyncio.timeout(10):
            while self.connections._tasks:
                await asyncio.sleep(0)


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """A server without connections, and no delays."""
    for name in ("KICK_DELAY_SECONDS", "ADMISSIONS_SETTLED_SECONDS"):
        monkeypatch.setattr(disconnect, name, 0)
    broker = Broker()
    await broker.connections.start()
    return broker


@pytest.mark.parametrize("client_id", ["web", "role:eve"])
async def test_connections_from_before_the_enabling_end(broker: Broker, client_id: str) -> None:
    """Also one admitted where the disabling was not known yet."""
    user = f"acme/{client_id}"
    broker.open = {
        1: (user, ENABLED - timedelta(hours=1)),
        2: (user, ENABLED),
        3: (user, ENABLED + timedelta(seconds=1)),
        4: ("acme/other", ENABLED - timedelta(hours=1)),
    }
    broker.void["acme", client_id] = ENABLED
    broker.connections.end_void("acme", client_id)
    await broker.swept()
    assert (sorted(broker.open), broker.sweeps) == ([3, 4], 2)


async def test_all_connections_of_a_disabled_client_end_also_later_ones(broker: Broker) -> None:
    """A client that is not known to be disabled keeps its connections."""
    broker.open = {1: ("acme/web", ENABLED), 2: ("acme/web", ENABLED + timedelta(days=1))}
    broker.connections.end_void("acme", "web")
    await broker.swept()
    assert not broker.ended
    broker.void["acme", "web"] = FOR_EVER
    broker.connections.end_void("acme", "web")
    async with asyncio.timeout(10):
        while broker.open:
            await asyncio.sleep(0)
    broker.open[3] = ("acme/web", ENABLED + timedelta(days=2))
    await broker.swept()
    assert broker.ended == [1, 2, 3]


async def test_more_connections_than_a_page_are_ended(broker: Broker) -> None:
    """The servers list the oldest first, so connections that stay cause no further requests."""
    fresh, old = ENABLED + timedelta(seconds=1), ENABLED - timedelta(seconds=1)
    broker.open = {cid: ("acme/web", old if cid <= PAGE_SIZE + 2 else fresh) for cid in range(1, 3 * PAGE_SIZE)}
    broker.void["acme", "web"] = ENABLED
    broker.connections.end_void("acme", "web")
    await broker.swept()
    assert broker.ended == list(range(1, PAGE_SIZE + 3)) and len(broker.open) > PAGE_SIZE
    assert broker.sweeps == 3 + 1


async def test_the_connection_of_a_void_token_ends_and_its_clients_stays(broker: Broker) -> None:
    """The user's name contains the token."""
    broker.open = {1: ("acme/web/f/j/1800000000", ENABLED + timedelta(days=1)), 2: ("acme/web", ENABLED)}
    broker.connections.end_user("acme/web/f/j/1800000000")
    await broker.swept()
    assert broker.ended == [1]


async def test_every_connection_is_listed_once(broker: Broker) -> None:
    """Page by page."""
    broker.open = {cid: (f"acme/c{cid}", ENABLED) for cid in range(1, 2 * PAGE_SIZE)}
    for _ in range(2):
        listed: list[Listed] = []
        await broker.connections.list_all(listed.append)
        assert [one.cid for one in listed] == list(range(1, 2 * PAGE_SIZE))
        assert {one.began for one in listed} == {ENABLED}
