"""What a family's commit leaves out is there again when it is read, whatever its events are."""

from datetime import timedelta
from itertools import combinations
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from events.aggregates.commit import VERSION, Commit, UnreadableCommit, later
from events.aggregates.family import FamilyState, fold
from events.aggregates.family_commit import FamilyCodec, codec
from events.aggregates.family_events import FamilyEvent, TokenIssued, TokenRevoked, TokenRotated
from events.aggregates.kinds import FAMILY
from events.verification.chain import BadCommit, LastCommit, check
from tests.events.aggregates.test_following import AT, CHANGES, LATER, PLAIN, SOON, STATE
from tests.events.verification.test_impossible_histories import OPENED, SCOPE, used
from tests.projections.logs import START

ID_TOKEN = TokenIssued("id", "openid", ("web",), AT + timedelta(minutes=5), jti="1")


def commit(events: tuple[FamilyEvent, ...], state: FamilyState | None = STATE, id: str = "1") -> Any:
    """A commit of these events after `state`; if that is None, with a state of something else."""
    after = STATE if state is None else fold(state, events, AT)
    return Commit(VERSION, id, AT, "client:web", "digest", 7, events, after)


def test_any_commit_is_read_as_it_was_before_it_was_written() -> None:
    """Each field of the state and of a refresh's events otherwise, and each two of them."""
    read = 0
    for changes in [*combinations(CHANGES, 1), *combinations(CHANGES, 2)]:
        changed: list[Any] = [STATE, *PLAIN, ID_TOKEN]
        for place, name, value in changes:
            changed[place] = replace(changed[place], **{name: value})
        state, *events = changed
        try:
            whole = commit(tuple(events), state)
        except ValueError:
            continue  # no such commit is written
        assert codec.decode(codec.encode(whole)) == whole, changes
        read += 1
    assert read > 1000


@pytest.mark.parametrize(
    ("state", "events"),
    [
        (None, OPENED),
        (None, (*OPENED[:2], PLAIN[0], replace(OPENED[2], expires_at=LATER))),
        (STATE, (used(SOON), PLAIN[2])),
        (STATE, (used(SOON, SOON), PLAIN[2])),
        (STATE, PLAIN),
        (STATE, (replace(PLAIN[2], client_id="orders"),)),
    ],
    ids=["opened", "opened and redeemed", "reused", "reused, and the end is nearer", "rotated", "exchanged"],
)
def test_every_kind_of_commit_is_read_whole(state: FamilyState | None, events: tuple[FamilyEvent, ...]) -> None:
    """By its own state as by the state before it, and what its events set is in the body once."""
    after = fold(state, events, AT)
    name = "tokens.acme.family.f" if state is None else None
    whole: Any = Commit(VERSION, "1", AT, "operator", None, 0, events, after, name)
    body = codec.encode(whole)
    assert codec.decode(body) == whole
    unfolded = FAMILY.decode_unfolded(body)
    assert codec.whole_events(unfolded, state) == events
    rest = codec.without_events(after, events)
    assert msgspec.json.encode(rest) == bytes(unfolded.state)
    assert rest.access == (None if events[-1].client_id is None else after.access)  # type: ignore[union-attr]


def test_an_expiry_that_a_redemption_sets_is_written_once() -> None:
    """By the policy `reuse` the generation stays, and is in the state."""
    body = codec.encode(commit((used(SOON), PLAIN[2])))
    assert body.count(b'"expires_at"') == 1 and b'"generation":0,"key":1' in body


def test_a_codec_knows_the_types_of_what_it_encodes() -> None:
    """Those of whole commits, and that of the events as they are written."""
    other, whole = FamilyCodec(), commit(PLAIN)
    assert other.decode(other.encode(whole)) == whole
    assert (other.event, other.state, other.written_event) == (FamilyEvent, FamilyState, codec.written_event)


def test_a_refresh_is_short() -> None:
    """What the commit's id and time, the grant and the redemption determine is left out, and nothing is there twice."""
    token = replace(PLAIN[2], scope=SCOPE)
    rotation = replace(PLAIN[1], expires_at=AT + timedelta(days=14))
    body = codec.encode(commit((PLAIN[0], rotation, token, ID_TOKEN)))
    assert body == (
        b'{"v":1,"id":"1","at":"2026-11-20T12:00:03Z","prev":"digest","prev_seq":7,"events":['
        b'{"type":"TokenRedeemed","generation":0},'
        b'{"type":"TokenRotated","expires_in":"P14D","key":1},'
        b'{"type":"TokenIssued","expires_in":"PT300S"},'
        b'{"type":"TokenIssued","expires_in":"PT300S","kind":"id"}],'
        b'"state":{"client_id":"web","sub":"alice","scope":"read offline_access","audience":["https://api.example"],'
        b'"grant":"issue","seed":"seed","opened_at":"2026-11-20T12:00:00Z","family_ttl":"P14D"}}'
    )


def test_what_is_not_as_usual_is_written() -> None:
    """Another scope, another target, another `jti`, another generation, and tokens of other clients."""
    rotation = TokenRotated(1, 3, AT + timedelta(days=1), 1)
    token = TokenIssued("access", "read", ("b",), AT + timedelta(seconds=1.5), jti="2", client_id="orders")
    *_, one, other = msgspec.json.decode(codec.encode(commit((PLAIN[0], rotation, token), state=None)))["events"]
    assert one == {"type": "TokenRotated", "expires_in": "P1D", "key": 1, "from_generation": 1, "to_generation": 3}
    for start, end in ((1, 3), (1, 2), (0, 3), (0, 1)):
        body = codec.encode(commit((PLAIN[0], replace(rotation, from_generation=start, to_generation=end)), state=None))
        assert codec.decode(body).events[1] == TokenRotated(start, end, rotation.expires_at, 1)
    assert other == {
        "type": "TokenIssued",
        "expires_in": "PT1.5S",
        "scope": "read",
        "audience": ["b"],
        "jti": "2",
        "client_id": "orders",
    }


def test_another_actor_is_written() -> None:
    """One that is not the family's own client."""
    for actor in ("operator", "client:orders", ""):
        by_another = replace(commit(PLAIN), actor=actor)
        body = codec.encode(by_another)
        assert b'"actor":' + msgspec.json.encode(actor) in body and codec.decode(body) == by_another


def test_a_later_commit_has_the_whole_state() -> None:
    """What its own events do not set."""
    refreshed = fold(STATE, PLAIN, AT)
    body = codec.encode(commit((TokenRevoked("x", LATER),), refreshed))
    assert msgspec.json.encode(replace(refreshed, revoked_jtis={"x": LATER})) in body


def test_a_rotation_of_nobody_knows_what_is_unreadable() -> None:
    """It says no generation, and nothing was redeemed in its commit."""
    body = codec.encode(commit(PLAIN)).replace(b'{"type":"TokenRedeemed","generation":0},', b"")
    with pytest.raises(UnreadableCommit, match="does not say which"):
        codec.decode(body)
    before = LastCommit(FAMILY, 7, "digest", STATE, START)
    with pytest.raises(BadCommit, match="its events cannot follow: it rotates a generation and does not say which"):
        check(FAMILY, "tokens.acme.family.f", body, before, "live")


def test_a_family_that_begins_with_a_token_cannot_follow() -> None:
    """There is no grant whose scope it could have."""
    body = codec.encode(commit(PLAIN[2:])).replace(b'"prev":"digest","prev_seq":7', b'"prev":null,"prev_seq":0')
    with pytest.raises(BadCommit, match="its events cannot follow: a family begins with a grant"):
        check(FAMILY, "tokens.acme.family.f", body, None, "live")


@pytest.mark.parametrize("days", [999_999_999, -999_999_999])
def test_a_time_beyond_all_years_is_the_last_or_the_first(days: int) -> None:
    """Whoever can append may write one."""
    duration = timedelta(days=days)
    assert later(AT, duration).year == (9999 if days > 0 else 1)
    forged = msgspec.json.encode(duration).strip(b'"').join([b'"expires_in":"', b'"'])
    found = codec.decode(codec.encode(commit(PLAIN)).replace(b'"expires_in":"PT300S"', forged))
    assert found.events[-1].expires_at == found.state.access.expires_at == later(AT, duration)  # type: ignore[union-attr]
    assert replace(STATE, family_ttl=duration).family_expires_at == later(START, duration)
    assert replace(STATE, family_ttl=None).family_expires_at is None
