"""Coroutines take turns: a cancelled one keeps none, and without room there is none to wait for."""

import asyncio

import pytest

from events.fairness.fair_queue import Limits, NoRoom, Turns
from tests.events.fairness.slow import Slow, ended

ONE_AT_ONCE = Limits(at_once=1, of_tenant=1, of_client=1, waiting=3, waiting_of_tenant=3, waiting_of_client=3)


async def take(turns: Turns, slow: Slow, who: str) -> None:
    """Work in the turn of a client of acme."""
    async with turns.of(("acme", who)):
        await slow(who)


async def test_a_cancelled_one_keeps_no_turn() -> None:
    """Neither while it waits nor while it works."""
    turns, slow = Turns(ONE_AT_ONCE), Slow()
    first, second, third = (asyncio.create_task(take(turns, slow, who)) for who in ("first", "second", "third"))
    await slow.until("first")
    second.cancel()
    first.cancel()
    await slow.until("first", "third")
    third.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    async with turns.of(("acme", "fourth")):
        assert turns.waiting == 0


async def test_one_that_is_cancelled_as_its_turn_comes_keeps_none() -> None:
    turns, slow = Turns(ONE_AT_ONCE), Slow()

    async def take(who: str) -> None:
        async with turns.of(("acme", who)):
            await slow(who)
        second.cancel()  # it just got its turn, and has not resumed yet

    first, second = (asyncio.create_task(take(who)) for who in ("first", "second"))
    await slow.until("first")
    slow.go.release()
    await asyncio.gather(first, second, return_exceptions=True)
    assert slow.began == ["first"]
    async with asyncio.timeout(1), turns.of(("acme", "third")):
        pass


async def test_without_room_a_request_is_refused_at_once() -> None:
    turns = Turns(Limits(at_once=1, of_tenant=1, of_client=1, waiting=1, waiting_of_tenant=1, waiting_of_client=1))
    slow = Slow()
    two = [asyncio.create_task(take(turns, slow, "web")) for _ in range(2)]
    await slow.until("web")
    async with ended(slow, *two):
        with pytest.raises(NoRoom):
            await take(turns, slow, "web")
