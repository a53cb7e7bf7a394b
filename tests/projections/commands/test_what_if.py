"""What-if over a stored history: parts of it, one that is too long, one that cannot be decoded."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from events.bus.connect import connect
from events.fairness.request_gate import GateKey
from heirloom.what_if import query
from heirloom.what_if.findings import Findings, Scenario
from heirloom.what_if.query import CannotTell, TooLong, WhatIf, find_out
from projections.queries.requests import QueryRefused, UnknownTenant
from tests.broker import Broker
from tests.projections.logs import START
from tests.projections.projector.test_projector import LOG, publish


def terms(**others: Any) -> Scenario:
    """A scenario without rotation, judged after the end of the log."""
    return Scenario("acme", {"refresh_token_rotation": "reuse"}, START + timedelta(minutes=2), **others)


async def test_a_part_of_a_history(nats_server: Broker) -> None:
    """By client and by position; a part that starts by sequence reads from there on, by time from the start."""
    await publish(nats_server, LOG)
    connection = await connect(nats_server.url, "test")
    steps: list[int] = []

    async def found(**others: Any) -> Findings:
        return await find_out(connection, terms(**others), steps.append)

    whole = await found()
    assert (whole.families, whole.thefts_let_through, steps[-1]) == (8, 1, len(LOG))
    late = await found(since=4)
    assert late.families == 6
    assert late == await found(since=START + timedelta(seconds=3))
    assert (await found(until=35)).thefts_let_through == 0
    assert (await found(until=START + timedelta(seconds=34), client_id="app")).thefts_let_through == 0
    assert {item.client_id for item in (await found(client_id="app")).items} == {"app"}
    with pytest.raises(UnknownTenant):
        await find_out(connection, replace(terms(), tenant="nosuch"), steps.append)
    with pytest.raises(TooLong):
        await find_out(connection, terms(), steps.append, at_most=5)
    await connection.close()


async def test_a_history_that_cannot_be_followed(nats_server: Broker) -> None:
    """A commit with an unknown event: the command and the query name its sequence."""
    unknown = LOG[20].body.replace(b"TokenRotated", b"TokenBlessed")
    await publish(nats_server, [*LOG[:20], replace(LOG[20], body=unknown)])
    connection = await connect(nats_server.url, "test")
    with pytest.raises(CannotTell, match="sequence 21: "):
        await find_out(connection, terms(), lambda _: None)
    with pytest.raises(QueryRefused, match="sequence 21: "):
        await WhatIf(connection)(GateKey("acme", False), b'{"policy": {"refresh_token_grace": 1}}')
    await connection.close()


async def test_a_query_waits_for_its_min_seq(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """It judges that commit too; if the log does not get there in time, the refusal says how far it is."""
    await publish(nats_server, LOG[:20])
    connection = await connect(nats_server.url, "test")
    asked = {"policy": {"refresh_token_rotation": "reuse"}, "min_seq": len(LOG)}
    monkeypatch.setattr(query, "MIN_SEQ_TIMEOUT_SECONDS", 0.01)
    with pytest.raises(QueryRefused, match="min_seq: it is at sequence 20") as refused:
        await WhatIf(connection)(GateKey("acme", False), msgspec.json.encode(asked))
    assert (refused.value.code, refused.value.status) == ("temporarily_unavailable", 503)
    monkeypatch.setattr(query, "MIN_SEQ_TIMEOUT_SECONDS", 60)
    waiting = asyncio.create_task(WhatIf(connection)(GateKey("acme", False), msgspec.json.encode(asked)))
    await asyncio.sleep(0.1)
    await publish(nats_server, LOG[20:])
    assert msgspec.json.decode(await waiting)["thefts_let_through"] == 1
    await connection.close()
