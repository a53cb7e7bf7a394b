"""Turns: limits hold, no request is lost or waits without need, and no requester delays another one."""

from collections import Counter
from typing import Any, NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from events.fairness.fair_queue import FairQueue, Limits, Requester

LIMITS = Limits(at_once=6, of_tenant=4, of_client=2, waiting=12, waiting_of_tenant=8, waiting_of_client=5, alone=5)

requesters = st.tuples(st.sampled_from(["acme", "globex", "initech"]), st.sampled_from(["app", "web", "tv"]))


class Asked(RuleBasedStateMachine):
    """Requests begin and end in any order; lists beside the queue hold the expected state."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[int] = FairQueue(LIMITS, lambda: self.alone)
        self.alone: Requester | None = None
        self.under_way: list[Requester] = []
        self.waiting: dict[Requester, list[int]] = {}
        self.passed_over: Counter[tuple[Requester, Requester]] = Counter()
        """How often, for (one, other), the other began while the one waited and could have begun."""
        self.number = 0

    def may_begin(self, requester: Requester) -> bool:
        """Whether the limits permit it."""
        if requester == self.alone and len(self.under_way) < LIMITS.alone:
            return True
        of_tenant = [other for other in self.under_way if other[0] == requester[0]]
        return (
            len(self.under_way) < LIMITS.at_once
            and len(of_tenant) < LIMITS.of_tenant
            and of_tenant.count(requester) < LIMITS.of_client
        )

    @rule(requester=requesters)
    def ask(self, requester: Requester) -> None:
        """It begins, waits, or is refused; a requester without waiting requests always finds room."""
        self.number += 1
        if requester != self.alone:
            self.alone = None
        may_begin = self.may_begin(requester) and requester not in self.waiting
        assert self.queue.try_begin(requester) == may_begin
        if may_begin:
            self.under_way.append(requester)
            return
        total = sum(map(len, self.waiting.values()))
        of_tenant = sum(len(numbers) for other, numbers in self.waiting.items() if other[0] == requester[0])
        own = self.waiting.get(requester, [])
        room = total < LIMITS.waiting and of_tenant < LIMITS.waiting_of_tenant and len(own) < LIMITS.waiting_of_client
        assert self.queue.try_queue(requester, self.number) == (room or not own)
        if room or not own:
            self.waiting.setdefault(requester, []).append(self.number)

    @rule(requester=requesters)
    def be_alone(self, requester: Requester) -> None:
        """No other requester has asked for a while, and only this one has waiting requests."""
        if set(self.waiting) <= {requester}:
            self.alone = requester

    @rule(which=st.integers(min_value=0))
    def end(self, which: int) -> None:
        """End a request, and begin all that may begin."""
        if self.under_way:
            self.queue.ended(self.under_way.pop(which % len(self.under_way)))
            while self.begin():
                pass
            assert not any(self.may_begin(requester) for requester in self.waiting)

    def begin(self) -> bool:
        """Begin a requester's oldest request, if any may begin; no requester is skipped again and again."""
        might = [requester for requester in self.waiting if self.may_begin(requester)]
        following = self.queue.take_next()
        assert (following is not None) == bool(might)
        if following is None:
            return False
        began, number = following
        assert began in might and self.waiting[began].pop(0) == number
        for requester in might:
            if requester != began:
                self.passed_over[requester, began] += 1
                assert self.passed_over[requester, began] == 1 or requester[0] != began[0]
        for pair in list(self.passed_over):
            if pair[0] == began:
                del self.passed_over[pair]
        if not self.waiting[began]:
            del self.waiting[began]
        self.under_way.append(began)
        return True

    @invariant()
    def nobody_waits_who_may_begin(self) -> None:
        """Except for a requester that became alone meanwhile; the counters agree."""
        assert not any(self.may_begin(requester) for requester in self.waiting if requester != self.alone)
        assert self.queue.under_way == len(self.under_way)
        assert self.queue.waiting == sum(map(len, self.waiting.values()))

    def teardown(self) -> None:
        """All requests come out, and the queue is empty again."""
        while self.under_way:
            self.end(0)
        assert not self.waiting
        empty: FairQueue[int] = FairQueue(LIMITS, self.queue._alone)
        assert vars(self.queue) == vars(empty)


test_any_requests = Asked.TestCase
test_any_requests.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def begun(queue: FairQueue[int], ends: int) -> list[Requester]:
    """The requesters that begin, when the oldest running request ends each time."""
    under_way = [requester for requester, count in queue._of_client.items() for _ in range(count)]
    began = []
    for _ in range(ends):
        queue.ended(under_way.pop(0))
        while (following := queue.take_next()) is not None:
            under_way.append(following[0])
            began.append(following[0])
    return began


def fill(queue: FairQueue[int], requester: Requester) -> None:
    """Ask until there is no room."""
    while queue.try_begin(requester) or queue.try_queue(requester, 0):
        pass


def test_a_flood_delays_another_requester_by_at_most_one_request() -> None:
    """However many requests wait, a new requester is next but one."""
    queue = FairQueue[int](
        Limits(at_once=4, of_tenant=4, of_client=4, waiting=100, waiting_of_tenant=100, waiting_of_client=100)
    )
    fill(queue, ("acme", "flood"))
    assert not queue.try_begin(("acme", "quiet")) and queue.try_queue(("acme", "quiet"), 1)
    assert ("acme", "quiet") in begun(queue, 2)


def test_a_tenant_with_many_clients_has_no_more_turns_than_another() -> None:
    """Tenants take turns first: twenty flooding clients of a tenant count as one."""
    queue = FairQueue[int](
        Limits(at_once=4, of_tenant=4, of_client=4, waiting=1000, waiting_of_tenant=1000, waiting_of_client=10)
    )
    for client in ("flood", *(f"c{number}" for number in range(20))):
        fill(queue, ("acme", client))
    for _ in range(3):
        assert queue.try_queue(("globex", "quiet"), 1)
    assert begun(queue, 6).count(("globex", "quiet")) >= 2


def test_a_flood_leaves_places_to_others() -> None:
    """The running requests of a client and of a tenant are bounded, so others begin at once."""
    queue = FairQueue[int](LIMITS)
    fill(queue, ("acme", "flood"))
    assert queue.under_way == LIMITS.of_client and queue.try_begin(("acme", "quiet"))
    fill(queue, ("acme", "other"))
    assert queue.under_way == LIMITS.of_tenant and queue.try_begin(("globex", "quiet"))


def test_a_requester_alone_has_more_places_until_another_one_comes() -> None:
    """Its waiting requests begin together; once another requester comes, the usual limits hold."""
    alone: Requester | None = None
    queue = FairQueue[int](LIMITS, lambda: alone)
    fill(queue, ("acme", "flood"))
    assert (queue.under_way, queue.waiting) == (LIMITS.of_client, 5)
    alone = ("acme", "flood")
    assert not queue.try_begin(("acme", "flood")), "its earlier requests come first"
    assert len(begun(queue, 1)) == 4 and queue.under_way == LIMITS.alone
    alone = None
    assert begun(queue, 3) == [] and begun(queue, 1) == [("acme", "flood")]


class Untouched(dict[str, Any]):
    """A dict that must not be iterated."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("all that wait were gone through")

    items = values = keys = __iter__


@pytest.mark.parametrize("alone", [None, ("globex", "web"), ("acme", "w3")])
def test_requests_that_cannot_begin_are_not_iterated(alone: Requester | None) -> None:
    """Neither the clients of a tenant at its limit, nor anything without a free place."""
    queue = FairQueue[int](LIMITS, lambda: alone)
    for number in range(LIMITS.of_tenant):
        assert queue.try_begin(("acme", f"c{number}"))
    for number in range(100):
        assert queue.try_queue(("acme", f"w{number}"), number)
    queue._waiting["acme"] = Untouched(queue._waiting["acme"])
    assert queue.take_next() == ((alone, 3) if alone == ("acme", "w3") else None)
    while queue.under_way < LIMITS.at_once:
        assert queue.try_begin(("globex", f"c{queue.under_way}"))
    queue._waiting = Untouched(queue._waiting)
    assert queue.take_next() is None
