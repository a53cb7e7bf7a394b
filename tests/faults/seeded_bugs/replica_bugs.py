"""Seeded bugs of a replica: of deciding, appending and replying."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec

from events.aggregates import family
from events.aggregates.aggregate_names import STREAM
from events.log import appender
from events.log.appender import Appender, Conflict
from service.context import Context
from service.decide import decision
from service.decide import refresh_token as redeem
from service.endpoints import endpoint_table, revoke
from service.endpoints.grants import refresh_token
from service.families import families
from service.families.cache import FamilyCache, Key, LoadedFamily
from service.families.families import Families
from service.keys.mac_tokens import MacTokens
from service.request import Request
from tests.faults.harness.orders import put


def no_compare_and_swap() -> None:
    """Appends expect no sequence."""
    put(appender, "_expectation", lambda _append: {})


def acknowledged_before_append() -> None:
    """A commit is acknowledged first, and appended a little later."""
    append = Appender.append

    async def early(self: Appender, subject: str, filter: str, body: bytes, expected: int, **more: Any) -> int:
        if ".family." not in subject:
            return await append(self, subject, filter, body, expected, **more)

        async def later() -> None:
            await asyncio.sleep(0.2)
            await append(self, subject, filter, body, expected, **more)

        task = asyncio.create_task(later())
        _running.add(task)
        task.add_done_callback(_forget)
        return expected + 1

    put(Appender, "append", early)


def stale_cache_believed() -> None:
    """The replica trusts its cache without asking the log."""
    remember = FamilyCache.remember

    def certain(self: FamilyCache, key: Key, what: LoadedFamily) -> None:
        remember(self, key, msgspec.structs.replace(what, from_leader=True))

    put(FamilyCache, "remember", certain)
    put(FamilyCache, "put_remote", lambda *_: None)


def introspection_from_a_stale_read() -> None:
    """Introspection uses the cache first."""
    load = Families.load

    async def cached(self: Families, tenant: str, family_id: str) -> LoadedFamily:
        return self.cache.get((tenant, family_id)) or await load(self, tenant, family_id)

    put(FamilyCache, "put_remote", lambda *_: None)
    put(Families, "load", cached)


def reuse_event_dropped() -> None:
    """A reuse is refused without a commit."""
    put(redeem, "_reused", lambda _state, _command: decision.Decision(decision.invalid_grant()))


def grace_accepts_grandparents() -> None:
    """Any older generation is accepted within the grace time."""

    def lenient(state: family.FamilyState, command: redeem.Redeem) -> bool:
        grace = timedelta(seconds=command.rules.refresh_token_grace)
        return state.redeemed_at is not None and command.now < state.redeemed_at + grace

    put(redeem, "_within_grace", lenient)


def grace_for_everybody() -> None:
    """Clients without a grace time get ten seconds."""

    def lenient(state: family.FamilyState, command: redeem.Redeem) -> bool:
        parent = state.generation is not None and command.generation + 1 == state.generation
        return parent and state.redeemed_at is not None and command.now < state.redeemed_at + timedelta(seconds=10)

    put(redeem, "_within_grace", lenient)


def decided_once() -> None:
    """A lost race repeats the first decision instead of deciding on the reloaded family."""
    decide = Families.decide

    async def stubborn(self: Families, tenant: str, family_id: str, actor: str, choose: Any, **more: Any) -> Any:
        first: list[Any] = []

        def remembered(state: Any, now: Any, commit_id: str) -> Any:
            if not first or not first[0].events:
                first[:] = [choose(state, now, commit_id)]
            return first[0]

        return await decide(self, tenant, family_id, actor, remembered, **more)

    put(Families, "decide", stubborn)


def lost_acknowledgement_is_a_failure() -> None:
    """A missing acknowledgement counts as a conflict, without asking the log: the decision is made again."""

    async def hasty(self: Appender, subject: str, filter: str, body: bytes, expected: int, **more: Any) -> int:
        loop = asyncio.get_running_loop()
        guard, stream = more.get("guard") or (filter, expected), more.get("stream") or STREAM
        append = appender.Append(subject, filter, body, guard, loop.create_future(), stream)
        ack = await self._send_single(append)
        if ack.error is not None:
            raise Conflict(filter)
        return ack.seq

    put(Appender, "append", hasty)


def another_successor_on_retry() -> None:
    """A token is different when it is computed the second time."""
    mint = MacTokens.mint
    seen: set[str] = set()

    def fickle(self: MacTokens, key: int, family_id: str, number: int, seed: str) -> str:
        text = mint(self, key, family_id, number, seed)
        if text in seen:
            return text[:-1] + ("a" if text[-1] != "a" else "b")
        seen.add(text)
        return text

    put(MacTokens, "mint", fickle)


def revocation_told_before_commit() -> None:
    """The reply is sent at once, the revocation is appended later."""
    handle = revoke.handle

    async def hasty(context: Context, request: Request) -> bytes:
        async def later() -> None:
            await asyncio.sleep(0.3)
            await handle(context, request)

        task = asyncio.create_task(later())
        _running.add(task)
        task.add_done_callback(_forget)
        return b"{}"

    endpoint_table.ENDPOINTS["revoke"] = endpoint_table.ENDPOINTS["revoke"]._replace(handle=hasty)


def any_key_is_a_retry() -> None:
    """An Idempotency-Key is not compared with the redemption's."""
    again = redeem.redeem

    def trusting(state: family.FamilyState | None, command: redeem.Redeem) -> decision.Decision:
        if state is not None and command.retry is not None and state.retry is not None and state.revoked is None:
            command = command._replace(retry=state.retry)
        return again(state, command)

    put(refresh_token, "redeem", trusting)


def any_key_is_a_late_duplicates() -> None:
    """An older generation's key is not compared with those that redeemed it."""
    again = redeem.redeem

    def trusting(state: family.FamilyState | None, command: redeem.Redeem) -> decision.Decision:
        if command.retry is not None:
            command = command._replace(redeemed_with=(command.retry.key,))
        return again(state, command)

    put(refresh_token, "redeem", trusting)


def dead_families_rotate() -> None:
    """A revoked family is redeemed like any other."""
    again = redeem.redeem

    def blind(state: family.FamilyState | None, command: redeem.Redeem) -> decision.Decision:
        if state is not None and state.revoked is not None and command.generation == state.generation:
            state = msgspec.structs.replace(state, revoked=None)
        return again(state, command)

    put(refresh_token, "redeem", blind)


def state_of_the_commit_before() -> None:
    """A commit carries the state before its events."""
    fold = family.fold

    def late(state: Any, events: Any, at: Any) -> Any:
        after = fold(state, events, at)
        return after if state is None or after.revoked else msgspec.structs.replace(after, access=state.access)

    put(families, "fold", late)


_running: set[asyncio.Task[None]] = set()


def _forget(task: "asyncio.Task[None]") -> None:
    _running.discard(task)
    if not task.cancelled():
        task.exception()  # a late conflict is ignored: that is the bug
