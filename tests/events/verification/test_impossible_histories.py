"""Impossible histories with right chains and states: each breaks one rule (ADR 0025)."""

import contextlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from events.aggregates.commit import Commit, digest
from events.aggregates.family import DEVICE_GRANT, FamilyState, evolve
from events.aggregates.family_commit import codec
from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    DeviceAuthorizationDenied,
    DeviceAuthorizationStarted,
    FamilyEvent,
    FamilyRevoked,
    ForgeryDetected,
    GrantAuthorized,
    LateDuplicateRefused,
    Retry,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRevoked,
    TokenRotated,
    revokes,
)
from events.log.stored_message import StoredMessage
from events.verification.verifier import Report, Verifier
from tests.projections.logs import AUDIENCE, START

END = START + timedelta(days=14)
SCOPE = "read offline_access"


def access(at: Any, jti: str, scope: str = "read", **fields: Any) -> TokenIssued:
    """An access token of five minutes."""
    return TokenIssued("access", scope, AUDIENCE, at + timedelta(minutes=5), jti=jti, **fields)


OPENED: tuple[FamilyEvent, ...] = (
    GrantAuthorized("web", "alice", SCOPE, AUDIENCE, "issue", "seed"),
    TokenIssued("refresh", SCOPE, AUDIENCE, END, generation=0, key=1, family_expires_at=END),
    access(START, "0"),
)


def used(expires_at: datetime, family_expires_at: datetime | None = None) -> TokenRedeemed:
    """A refresh token that stays, with the policy `reuse`."""
    return TokenRedeemed(0, "refresh_token", None, expires_at, family_expires_at)


def rotated(generation: int, at: Any, **fields: Any) -> tuple[FamilyEvent, ...]:
    """The redemption of that generation."""
    rotation = TokenRotated(generation, generation + 1, END, 1, **fields)
    return TokenRedeemed(generation, "refresh_token"), rotation, access(at, str(generation + 1))


@dataclass
class Step:
    """A commit at this time after the start."""

    seconds: float
    events: tuple[FamilyEvent, ...]


def forged(state: FamilyState | None, events: tuple[FamilyEvent, ...], at: datetime) -> FamilyState:
    """The state a forger would write: without the events that `evolve` refuses."""
    for event in events:
        with contextlib.suppress(ValueError):
            state = evolve(state, event, at)
    assert state is not None
    return state


def verify(*steps: Step, doubled: bytes = b"") -> Report:
    """The report on a family of these commits, correctly chained; `doubled` is inserted into the last body."""
    state, prev, verifier = None, None, Verifier()
    for seq, step in enumerate(steps, 1):
        at = START + timedelta(seconds=step.seconds)
        state = forged(state, step.events, at)
        name = None if prev else "tokens.acme.family.f"
        body = codec.encode(Commit(1, f"c{seq}", at, "client:web", prev, seq - 1, step.events, state, name))
        if seq == len(steps):
            body = doubled + body[1:] if doubled else body
        last = "revoked" if revokes(step.events) else "live"
        verifier.check(StoredMessage(seq, f"tokens.acme.family.f.{last}", body))
        prev = digest(body)
    return verifier.report()


BEGUN = Step(0, OPENED)
ONCE = Step(1, rotated(0, START + timedelta(seconds=1)))
ENDED = Step(2, (FamilyRevoked("operator", "a test"),))
WAITING = Step(0, (DeviceAuthorizationStarted("tv", "read", AUDIENCE, "s", END),))
AT_3 = START + timedelta(seconds=3)
APPROVAL = GrantAuthorized("tv", "ann", "read", AUDIENCE, DEVICE_GRANT, "s")
DENIAL = DeviceAuthorizationDenied("ann")
LATE = (LateDuplicateRefused(0, 1, "web", Retry("key", "body")),)
SKIPPED = TokenRedeemed(0, "refresh_token"), TokenRotated(0, 2, END, 1), access(AT_3, "x")
FROM_ANOTHER = TokenRedeemed(1, "refresh_token"), TokenRotated(0, 1, END, 1), access(AT_3, "x")


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((BEGUN, ONCE, ENDED, Step(3, rotated(1, AT_3))), "the family had ended"),
        ((BEGUN, ONCE, Step(3, (TokenRedeemed(0, "refresh_token"), access(AT_3, "x")))), "generation 0 was redeemed"),
        ((BEGUN, Step(14 * 86400 + 1, rotated(0, END))), "had expired"),
        ((BEGUN, Step(3, (TokenRotated(0, 1, END, 1), access(AT_3, "x")))), "nobody had redeemed"),
        ((BEGUN, Step(3, rotated(0, AT_3, family_expires_at=END + timedelta(1)))), "outlives the end"),
        ((BEGUN, Step(3, (used(END + timedelta(1)), access(AT_3, "x")))), "outlives the end"),
        ((BEGUN, Step(3, (used(END, END + timedelta(1)), access(AT_3, "x")))), "outlives the end"),
        ((BEGUN, Step(3, (used(END, AT_3), access(AT_3, "x")))), "outlives the end"),
        ((BEGUN, Step(3, (TokenRedeemed(0, "refresh_token"), access(AT_3, "x", "admin")))), "beyond the grant"),
        ((BEGUN, Step(3, (access(AT_3, "x"),))), "issued for nothing"),
        ((BEGUN, Step(3, (TokenRedeemed(0, "refresh_token"), access(AT_3, "0")))), "given twice"),
        ((BEGUN, Step(3, (TokenRedeemed(0, "refresh_token"),))), "nothing was given"),
        ((BEGUN, ONCE, Step(3, (TokenReuseDetected(0, 1, "web"),))), "did not end the family"),
        ((BEGUN, Step(3, (FamilyRevoked("reuse_detected", "x"),))), "there was none"),
        ((BEGUN, Step(3, (ForgeryDetected(0, 0, "web"), FamilyRevoked("forgery", "x")))), "had been issued"),
        ((BEGUN, Step(3, (ForgeryDetected(9, 0, "you"), FamilyRevoked("forgery", "x")))), "another client"),
        ((BEGUN, Step(999, (TokenRevoked("0", START),))), "revoked that had expired"),
        ((BEGUN, ONCE, *[Step(3, LATE)] * 11), "more late duplicates"),
        ((BEGUN, ONCE, ENDED, Step(3, LATE)), "the family had ended"),
        ((BEGUN, Step(3, (replace(LATE[0], current_generation=0),))), "called late"),
        ((BEGUN, ONCE, Step(3, (replace(LATE[0], client_id="you"),))), "another client"),
        ((BEGUN, ONCE, ENDED, *[Step(3, (TokenReuseDetected(0, 1, "web"),))] * 4), "more was recorded"),
        ((BEGUN, Step(3, (TokenRedeemed(0, "refresh_token"), replace(access(AT_3, "x"), audience=("x",))))), "target"),
        ((BEGUN, Step(3, (TokenRedeemed(0, "refresh_token"), access(START - timedelta(1), "x")))), "already expired"),
        ((BEGUN, Step(3, (TokenReuseDetected(0, 0, "web"), FamilyRevoked("reuse_detected", "x")))), "called reused"),
        ((BEGUN, Step(3, (TokenRedeemed(0, "authorization_code"), access(AT_3, "x")))), "no authorization_code"),
        ((BEGUN, Step(3, (AuthorizationCodeIssued(END, "c"),))), "a code for nothing"),
        ((Step(0, (OPENED[0], replace(OPENED[1], expires_at=END + timedelta(1)))),), "outlives the end"),
        ((WAITING, Step(3, (GrantAuthorized("tv", "ann", "admin", AUDIENCE, DEVICE_GRANT, "s"),))), "had not asked"),
        ((BEGUN, Step(-1e-6, rotated(0, START))), "the commit before it"),
        ((BEGUN, ENDED, Step(3, ENDED.events)), "a family ends once"),
        ((BEGUN, Step(3, ENDED.events * 2)), "a family ends once"),
        ((WAITING, Step(2, (APPROVAL,)), Step(3, (APPROVAL,))), "a family begins once"),
        ((WAITING, Step(3, (APPROVAL, APPROVAL))), "a family begins once"),
        ((WAITING, Step(2, (DENIAL,)), Step(3, (APPROVAL,))), "a family begins once"),
        ((WAITING, Step(2, (APPROVAL,)), Step(3, (DENIAL,))), "a family begins once"),
        ((BEGUN, Step(3, (OPENED[0],))), "a family begins once"),
        ((BEGUN, Step(3, SKIPPED)), "2 at generation 0"),
        ((BEGUN, ONCE, Step(3, FROM_ANOTHER)), "1 at generation 1"),
        ((BEGUN, ONCE, Step(3, (OPENED[1],))), "generation 0 issued after 1"),
        ((Step(0, (OPENED[0], replace(OPENED[1], generation=1))),), "generation 1 issued after None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_impossible_history_is_found(steps: tuple[Step, ...], why: str) -> None:
    """CONTRACT §3, §4: the history is whole up to the last commit."""
    fault = verify(*steps).fault
    assert fault is not None and fault.seq == len(steps) and why in fault.why
    assert verify(*steps[:-1]).fault is None


def test_two_commits_may_have_one_time() -> None:
    """A writer uses the last commit's time if its clock shows an earlier one."""
    assert verify(BEGUN, Step(0, rotated(0, START))).fault is None


def test_a_repeated_key_is_found() -> None:
    """RFC 8259 §4: readers differ on which value counts."""
    fault = verify(BEGUN, doubled=b'{"id":"another",').fault
    assert fault is not None and "twice" in fault.why
