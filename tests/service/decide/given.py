"""Families for tests of decisions: given events, when a command comes, then an outcome and events."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from events.aggregates.commit import VERSION, Commit
from events.aggregates.family import FamilyCommit, FamilyState, fold
from events.aggregates.family_events import FamilyEvent, GrantAuthorized, Retry, TokenIssued
from service.decide.access_token_claims import AccessTokenClaims, Actor, PresentedAccessToken
from service.decide.authorization_code import RedeemCode, RedeemDeviceCode, s256
from service.decide.device_authorization import AnswerDevice
from service.decide.issue import Issue
from service.decide.policy import ANY, Rules
from service.decide.refresh_token import Redeem
from service.decide.token_exchange import Exchange

START = datetime(2026, 1, 1, 12, 0, 0, 1, UTC)
VERIFIER = "v" * 43
CHALLENGE = s256(VERIFIER)
RULES = Rules(grant_types=("refresh_token",), scope="read write offline_access", audiences=(ANY,), may_issue=True)


def at(seconds: float) -> datetime:
    """The time this many seconds after the start."""
    return START + timedelta(seconds=seconds)


def given(*commits: tuple[FamilyEvent, ...], seconds: float = 0) -> FamilyState:
    """The state after these commits, all of the same time."""
    state: FamilyState | None = None
    for events in commits:
        state = fold(state, events, at(seconds))
    assert state is not None
    return state


def commit_of(
    state: FamilyState,
    *events: FamilyEvent,
    commit_id: str = "a commit",
    now: datetime = START,
    actor: str = "client:web",
) -> FamilyCommit:
    """A commit of these events that ends in this state, and refers to no commit before it."""
    return Commit(VERSION, commit_id, now, actor, None, 0, events, state)


def opened(client_id: str = "web", scope: str = "read write offline_access", **fields: Any) -> tuple[FamilyEvent, ...]:
    """A family with a refresh token of generation 0 and an access token."""
    audience = ("https://acme.example",)
    return (
        GrantAuthorized(client_id, "alice", scope, audience, "issue", "seed", **fields),
        TokenIssued("refresh", scope, audience, at(1000), generation=0, key=1, family_expires_at=at(2000)),
        TokenIssued("access", scope, audience, at(300), jti="jti-0"),
    )


def redeeming(generation: int, seconds: float = 1, rules: Rules = RULES, **fields: Any) -> Redeem:
    """A redemption of this generation by its client, `seconds` after the start."""
    chosen: dict[str, Any] = {
        "client_id": "web",
        "scope": None,
        "resource": None,
        "retry": None,
        "jti": f"jti-{generation + 1}",
        "key": 1,
        "cause": "a test",
    }
    return Redeem(now=at(seconds), rules=rules, generation=generation, **(chosen | fields))


def redeeming_code(seconds: float = 1, **fields: Any) -> RedeemCode:
    """A redemption of an authorization code by its client, `seconds` after the start."""
    chosen: dict[str, Any] = {
        "now": at(seconds),
        "rules": RULES,
        "client_id": "web",
        "code_verifier": VERIFIER,
        "redirect_uri": None,
        "resource": None,
        "retry": None,
        "jti": "jti-0",
        "key": 1,
        "cause": "a test",
    }
    return RedeemCode(**(chosen | fields))


def redeeming_device_code(seconds: float = 1, **fields: Any) -> RedeemDeviceCode:
    """A redemption of a device code by its client, `seconds` after the start."""
    chosen: dict[str, Any] = {
        "now": at(seconds),
        "rules": RULES,
        "client_id": "web",
        "resource": None,
        "retry": None,
        "jti": "jti-0",
        "key": 1,
    }
    return RedeemDeviceCode(**(chosen | fields))


def answering(approved: bool = True, **fields: Any) -> AnswerDevice:
    """Alice's answer to a device, ten seconds after the start."""
    chosen: dict[str, Any] = {
        "now": at(10),
        "waiting": None,
        "sub": "alice",
        "scope": None,
        "resource": None,
        "acr": None,
        "amr": (),
        "auth_time": None,
    }
    return AnswerDevice(approved=approved, **(chosen | fields))


def claimed(
    sub: str, client_id: str, jti: str, scope: str, actors: tuple[str, ...] = (), **fields: Any
) -> PresentedAccessToken:
    """The claims of a token of such a family, vouched for by the service."""
    act = None
    for actor in reversed(actors):
        act = Actor(actor, act)
    claims = AccessTokenClaims("iss", sub, "aud", client_id, 0, 1, jti, "f1", scope, act=act, **fields)
    return PresentedAccessToken(claims, lambda seed: seed == "seed")


def altered(token: PresentedAccessToken, **claims: Any) -> PresentedAccessToken:
    """The same token with other claims."""
    return token._replace(claims=replace(token.claims, **claims))


def exchanging(subject: PresentedAccessToken, scope: str | None = None, seconds: float = 1, **fields: Any) -> Exchange:
    """An exchange that `orders` may make; the subject token expires five minutes after the start."""
    chosen: dict[str, Any] = {
        "rules": replace(RULES, may_exchange=("web", "orders")),
        "client_id": "orders",
        "known_as": ("orders",),
        "subject_audience": ("https://acme.example",),
        "owner_scope": RULES.scope,
        "audience": ("bank",),
        "act": ("orders", *subject.claims.actors),
        "jti": "new",
    }
    return Exchange(
        now=at(seconds), subject_token=subject, subject_expires_at=at(300), scope=scope, **(chosen | fields)
    )


def issuing(rules: Rules = RULES, **fields: Any) -> Issue:
    """An issue of all that the rules allow; `fields` belong to the command or its grant."""
    chosen: dict[str, Any] = {
        "client_id": "web",
        "sub": "alice",
        "scope": rules.scope,
        "audience": ("https://acme.example",),
        "grant": "issue",
        "seed": "seed",
    }
    jti, key = fields.pop("jti", "jti-0"), fields.pop("key", 1)
    return Issue(START, rules, GrantAuthorized(**(chosen | fields)), jti, key)


KEY = Retry("key", "body")
