"""The promises hold in every order in which a book may close, and each rule of ADR 43 is necessary."""

from typing import get_args

import pytest

from tests.events.log.books.model import Broken, Fault, Operation, World, is_done, start, steps

Operations = tuple[tuple[Operation, ...], ...]

REFRESH_AND_REVOKE: Operations = (("refresh f",), ("revoke f",))
INTROSPECT_AND_REVOKE: Operations = (("introspect f",), ("revoke f",))
BEGIN_AND_BLOCK: Operations = (("begin g", "introspect g"), ("block", "revoke g"))
TWO_REFRESHES: Operations = (("refresh f",), ("refresh f",))

SCENARIOS = {
    "a family's end is seen": start(INTROSPECT_AND_REVOKE, closings=1, lapses=1, crashes=1),
    "a refresh races the end": start(REFRESH_AND_REVOKE, closings=1, losses=1),
    "a family begins as its person is blocked": start(BEGIN_AND_BLOCK, closings=1),
    "two replicas refresh, two books close": start(TWO_REFRESHES, closings=2),
    "an acknowledgement is lost, two books close": start((("refresh f",),), closings=2, losses=1, lapses=1, crashes=1),
}
CAUGHT_BY: dict[Fault, str] = {
    "no stream expected": "a family begins as its person is blocked",
    "no barrier": "a family's end is seen",
    "guard of the open book": "a family begins as its person is blocked",
    "first sequence read early": "a refresh races the end",
    "answers without a lease": "a family's end is seen",
    "next book read last": "two replicas refresh, two books close",
    "acknowledgement in the newest book": "an acknowledgement is lost, two books close",
}


def _search(world: World) -> int:
    """Search every order; return the number of final worlds. Raises `Broken`."""
    seen, todo, done = {world}, [world], 0
    while todo:
        world = todo.pop()
        done += is_done(world)
        new = {after for after in steps(world) if after not in seen}
        seen |= new
        todo += new
    return done


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_order_keeps_the_promises(scenario: str) -> None:
    """The search reaches worlds in which all requests are answered and all books closed."""
    assert _search(SCENARIOS[scenario]) > 0


@pytest.mark.parametrize("fault", [each for each in get_args(Fault) if each])
def test_without_a_rule_a_promise_breaks(fault: Fault) -> None:
    with pytest.raises(Broken):
        _search(SCENARIOS[CAUGHT_BY[fault]]._replace(fault=fault))
