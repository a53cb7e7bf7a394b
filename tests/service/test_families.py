"""Loading and deciding over a real log: what a replica remembers may cost time, never an answer."""

from datetime import datetime

import pytest

from events import bus, stream
from events.family import FamilyState
from events.log import Conflict, Log
from service.decide.issue import issue
from service.decide.outcome import Decision, Granted
from service.decide.redeem import redeem
from service.families import Decide, Families
from service.subjects import Subjects
from tests.broker import Broker
from tests.service.families import issuing, redeeming


async def test_a_newer_token_than_remembered_is_no_race(nats_server: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another replica has rotated since: the token is looked up first, instead of appended as forged and refused."""
    connection = await bus.connect(nats_server.url, "test")
    await stream.ensure(connection, stream.Required())
    log = Log(connection)
    await log.start()
    one, other = (Families(log, Subjects(log)) for _ in range(2))
    conflicts: list[Conflict] = []

    async def append(*arguments: object, **guard: object) -> int:
        try:
            return await appends(*arguments, **guard)  # type: ignore[arg-type]  # handed on as they come
        except Conflict as conflict:
            conflicts.append(conflict)
            raise

    appends = log.append
    monkeypatch.setattr(log, "append", append)

    def begin(state: FamilyState | None, _now: datetime, _id: str) -> Decision:
        return issue(state, issuing())

    def present(generation: int) -> Decide:
        return lambda state, now, _id: redeem(state, redeeming(generation))

    await one.decide("acme", "f1", "client:web", begin, new=True)
    for generation, replica in enumerate((other, one, other, one)):
        concluded = await replica.decide("acme", "f1", "client:web", present(generation))
        assert isinstance(concluded.outcome, Granted)
    assert conflicts == []
    await connection.close()
