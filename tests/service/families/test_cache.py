"""The cache of families is bounded by the bytes of their commits; what a read of the log makes of a family."""

import gc
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from events.aggregates.commit import VERSION, Commit, digest
from events.aggregates.family import AccessToken, Code, Device, FamilyState, Revocation
from events.aggregates.family_commit import codec
from events.aggregates.family_events import FamilyEvent, ForgeryDetected, Retry, TokenRedeemed
from events.log.log import NOTHING, Head
from events.log.stored_message import StoredMessage
from service.families.cache import MIN_BYTES, FamilyCache, Key, LoadedFamily, from_head

NOW = datetime(2026, 11, 30, tzinfo=UTC)
STATE = FamilyState("web", "alice", "read", ("aud",), "issue", "seed", NOW, redeemed_at=NOW)
MAX_BYTES = 2000


def commit_of(state: FamilyState, actor: str = "a", event: FamilyEvent | None = None) -> bytes:
    """The body of a commit with that state: a redemption's, or that of another `event`."""
    events = (event or TokenRedeemed(0, retry=state.retry),)
    return codec.encode(Commit(VERSION, "c", NOW, actor, None, 0, events, state, None))


BODIES = [commit_of(STATE, "a" * length) for length in (1, 200, 700)]

keys = st.tuples(st.just("acme"), st.sampled_from("abcdefgh"))
steps = st.one_of(
    st.tuples(st.sampled_from(["remember", "put_remote"]), keys, st.integers(1, 9), st.sampled_from(BODIES)),
    st.tuples(st.sampled_from(["get", "forget"]), keys),
)


def family(seq: int, body: bytes) -> LoadedFamily:
    """As it is after its commit was appended here."""
    return LoadedFamily(seq, digest(body), STATE, from_leader=False, at=NOW, size=len(body))


class Entry(NamedTuple):
    """A commit in the model, and whether it came from another replica."""

    key: Key
    seq: int
    body: bytes
    is_remote: bool


class Model:
    """The same cache as a list: what was put in first comes first."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def find(self, key: Key) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)

    def forget(self, key: Key) -> None:
        self.entries = [entry for entry in self.entries if entry.key != key]

    def put(self, new: Entry) -> int:
        """Put in the entry, or a later one of the same family; returns how many had to go."""
        known = self.find(new.key)
        self.forget(new.key)
        self.entries.append(known if known is not None and known.seq > new.seq else new)
        gone = next(n for n in range(len(self.entries) + 1) if held(self.entries[n:]) <= MAX_BYTES)
        del self.entries[:gone]
        return gone


def held(entries: list[Entry]) -> int:
    return sum(len(entry.body) for entry in entries)


@given(st.lists(steps, max_size=60))
def test_it_never_holds_more_bytes_than_it_may(taken: list[tuple[Any, ...]]) -> None:
    """After every step it holds what the model holds: the newest commits of the families that were put in last."""
    cache, model, gone = FamilyCache(MAX_BYTES), Model(), 0
    for step in taken:
        match step:
            case "remember", key, seq, body:
                cache.remember(key, family(seq, body))
                gone += model.put(Entry(key, seq, body, False))
            case "put_remote", key, seq, body:
                cache.put_remote(key, seq, body)
                gone += model.put(Entry(key, seq, body, True))
            case "forget", key:
                cache.forget(key)
                model.forget(key)
            case "get", key:
                entry = model.find(key)
                assert cache.get(key) == (None if entry is None else family(entry.seq, entry.body))
                if entry is not None and entry.is_remote:
                    model.forget(key)  # after decoding it, a replica appends the next commit or reads the log
        assert (cache.bytes, len(cache), cache.evicted) == (held(model.entries), len(model.entries), gone)
        assert cache.bytes <= MAX_BYTES
    for entry in model.entries:
        assert cache.get(entry.key) == family(entry.seq, entry.body)


def test_bytes_are_counted_and_not_families() -> None:
    """Of small commits there are many, and of large ones few; a commit larger than the cache is not kept."""
    cache = FamilyCache(30_000 * len(BODIES[0]))
    for number in range(30_001):
        cache.remember(("acme", str(number)), family(number + 1, BODIES[0]))
    assert (len(cache), cache.evicted, cache.get(("acme", "0"))) == (30_000, 1, None)
    cache = FamilyCache(MIN_BYTES)
    for number in range(10):
        cache.put_remote(("acme", str(number)), 1, bytes(MIN_BYTES // 4))
    assert (len(cache), cache.evicted, cache.bytes) == (4, 6, MIN_BYTES)
    cache.put_remote(("acme", "large"), 1, bytes(MIN_BYTES + 1))
    assert (len(cache), cache.bytes) == (0, 0)


def test_the_garbage_collector_walks_through_no_family() -> None:
    """Otherwise a full cache would stop a replica for a fifth of a second, again and again."""
    token = AccessToken("jti", "read", ("aud",), NOW, NOW + timedelta(minutes=5))
    state = replace(
        STATE,
        access=token,
        amr=("pwd", "otp"),
        retry=Retry("key", "body"),
        revoked=Revocation(NOW, "operator"),
        code=Code(NOW, "challenge"),
        device=Device(NOW),
        revoked_jtis={"jti": NOW},
    )
    body = commit_of(state)
    cache, read = FamilyCache(), codec.decode(body).state
    cache.remember(("acme", "f1"), replace(family(1, body), state=read))
    cache.put_remote(("acme", "f2"), 1, body)
    gc.collect()  # tuples and dictionaries of plain values are left out from then on
    assert read == state
    seen: list[Any] = [*cache._entries.keys(), *cache._entries.values()]
    while seen:
        value = seen.pop()
        assert not gc.is_tracked(value)
        seen += [part for part in gc.get_referents(value) if not isinstance(part, type)]


@pytest.mark.parametrize("leader", [True, False])
@pytest.mark.parametrize("newest", [5, 9], ids=["a commit", "a foreign message"])
@pytest.mark.parametrize("event", [None, ForgeryDetected(3, 1, "web")], ids=["a redemption", "another event"])
def test_a_family_is_as_its_last_commit_says(event: FamilyEvent | None, newest: int, leader: bool) -> None:
    """The next append expects what is newest on its subjects, and only a redemption has been answered."""
    state = STATE if event is None else replace(STATE, redeemed_at=NOW - timedelta(minutes=1))
    body, stored_at = commit_of(state, event=event), NOW + timedelta(seconds=1)
    head = Head(StoredMessage(5, "tokens.acme.family.f.live", body, stored_at), codec.decode(body), newest)
    family = from_head(head, from_leader=leader)
    assert family == LoadedFamily(
        seq=5,
        digest=digest(body),
        state=state,
        from_leader=leader,
        answered_at=stored_at if event is None else None,
        foreign_seq=9 if newest == 9 else 0,
        at=NOW,
        size=len(body),
    )
    assert family.expected == newest
    assert family.no_earlier(NOW - timedelta(seconds=1)) == NOW, "no commit is earlier than the one before it"
    assert family.no_earlier(stored_at) == stored_at


@pytest.mark.parametrize("head", [NOTHING, Head(None, None, 7)], ids=["nothing", "a foreign message"])
def test_a_family_without_a_commit_does_not_exist(head: Head) -> None:
    """Whatever else is on its subjects."""
    family = from_head(head, from_leader=True)
    assert family == LoadedFamily(0, None, None, from_leader=True, foreign_seq=head.expected)
    assert (family.expected, family.no_earlier(NOW)) == (head.expected, NOW)
