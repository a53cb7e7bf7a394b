"""A verifier that takes itself for whole knows everything as of the time that it names (a model of lost messages)."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heirloom_client.verification.access_token import MAX_KEYS
from heirloom_client.verification.feed import Feed, Page
from tests.client.verification.issuer import Issuer
from tests.client.verification.test_revoked import claims

BROKER_AHEAD = 1000.0
"""The broker's clock less the verifier's."""
FAR = 10**9
FATES = st.sampled_from(["there", "there", "on its way", "lost"])


class Delivery:
    """A feed of two tenants, a connection that loses, delays and repeats messages, and a verifier of the first."""

    def __init__(self) -> None:
        self.now = 1.0
        self.feed = Feed()
        self.name, self.stored = "one", list[dict[str, Any]]()
        self.newest, self.floor = 0, 0
        self.under_way: list[bytes] = []
        self.asked: tuple[int, float, Page] | None = None
        self.names = 0

    def step(self, what: str, fate: str, number: int) -> None:
        """Something happens; `number` says what is special about it, rarely anything."""
        self.now += 1.0
        match what:
            case "revoke":
                self._revoke(mine=number > 2, fate=fate)
            case "beat":
                self._beat(fate, restarted=number == 0)
            case "deliver" if self.under_way:
                message = self.under_way.pop(0)
                for _ in range(2 if number == 0 else 1):
                    self.feed.hear(message, self.now)
            case "ask" if self.asked is None:
                self._ask(1 + number % 5)
            case "answer" if self.asked is not None:
                self._answer()
            case "ask for all":
                self._ask_for_all()
            case "reconnect" if number < 3:
                self.under_way.clear()
                self.asked = None
                self.feed.connected()
            case "make anew" if number < 3:
                self._make_anew(kept=number)
        self._whoever_is_whole_knows()

    def _send(self, message: dict[str, Any], fate: str) -> None:
        """It is lost, on its way, or there; in any case after what was sent before."""
        if fate != "lost":
            self.under_way.append(json.dumps(message).encode())
        while fate == "there" and self.under_way:
            self.feed.hear(self.under_way.pop(0), self.now)

    def _revoke(self, *, mine: bool, fate: str) -> None:
        """A family ends; the entry is stored, and then published."""
        self.names += 1
        n, prev = len(self.stored) + 1, self.newest or self.floor
        entry = {"type": "family", "n": n, "prev": prev, "family_id": f"f{self.names}", "until": FAR}
        self.stored.append(entry | {"mine": mine, "time": self.now})
        if mine:
            self.newest = n
            self._send(entry, fate)

    def _beat(self, fate: str, *, restarted: bool) -> None:
        """A heartbeat; a publisher that has just started knows no more than how long the feed is."""
        if restarted:
            self.newest, self.floor = 0, len(self.stored)
        n = self.newest or self.floor
        self._send({"feed": self.name, "n": n, "at": self.now + BROKER_AHEAD}, fate)

    def _ask(self, size: int) -> None:
        """The page is read now, and arrives later."""
        after, asked_at = self.feed.ask(), self.now
        begin = after if self.feed.name == self.name and after <= len(self.stored) else 0
        rest = [entry for entry in self.stored[begin:] if entry["mine"]]
        more = len(rest) > size
        n = rest[size - 1]["n"] if more else len(self.stored)
        entries = [msgspec.Raw(json.dumps(entry).encode()) for entry in rest[:size]]
        self.asked = after, asked_at, Page(self.name, n, self.now + BROKER_AHEAD, more, entries, "issuer")

    def _answer(self) -> None:
        assert self.asked is not None
        after, asked_at, answer = self.asked
        self.asked = None
        self.feed.page(answer, after, asked_at)

    def _ask_for_all(self) -> None:
        """Page by page, while nothing else happens."""
        if self.asked is not None:
            self._answer()
        while not self.feed.is_whole:
            self._ask(3)
            self._answer()

    def _make_anew(self, *, kept: int) -> None:
        """The stream was removed: entries get other numbers. The question under way has read the old one."""
        self.name += "+"
        others = [entry for entry in self.stored if not entry["mine"]]
        mine = [entry for entry in self.stored if entry["mine"]]
        self.stored = [entry | {"n": n} for n, entry in enumerate([*mine, *others[:kept]], 1)]
        self.newest, self.floor = 0, len(self.stored)

    def _whoever_is_whole_knows(self) -> None:
        """All of the time that it names."""
        assert self.feed.as_of <= self.now
        if self.feed.is_whole:
            for entry in self.stored:
                if entry["mine"] and entry["time"] <= self.feed.as_of:
                    assert self.feed.revoked.holds(claims(sid=entry["family_id"]))


HAPPENS = st.sampled_from(
    [*["revoke"] * 4, *["beat"] * 3, "deliver", "ask", "answer", "answer", "ask for all", "reconnect", "make anew"]
)
STEPS = st.lists(st.tuples(HAPPENS, FATES, st.integers(0, 9)), min_size=30, max_size=30)


@settings(max_examples=300)
@given(STEPS)
def test_whoever_takes_itself_for_whole_knows(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is lost, delayed, repeated, numbered anew, or on its way at once."""
    delivery = Delivery()
    for step in steps:
        delivery.step(*step)


def page(n: int = 0, feed: str = "one", at: float = BROKER_AHEAD, **more: Any) -> Page:
    """A last page."""
    return Page(feed, n, at, False, [], "issuer", **more)


def is_whole(feed: Feed) -> bool:
    """Read anew: it changes."""
    return feed.is_whole


def whole(n: int = 5) -> Feed:
    """A feed that has asked once, at the time 0."""
    feed = Feed()
    feed.page(page(n), feed.ask(), 0.0)
    assert is_whole(feed)
    return feed


def beat(n: int, at: float, feed: str = "one") -> bytes:
    """A heartbeat at that time of the verifier's clock."""
    return json.dumps({"feed": feed, "n": n, "at": at + BROKER_AHEAD}).encode()


def test_an_old_heartbeat_is_no_news() -> None:
    """One that was under way for long says what was known when it was sent; a page says nothing at all."""
    feed = whole()
    assert feed.as_of == float("-inf")
    feed.hear(beat(5, 10.0), 70.0)
    assert feed.as_of == 10.0
    feed.hear(beat(5, 90.0), 80.0)  # the broker's clock was set
    assert feed.as_of == 80.0


def test_after_a_silence_it_asks_first() -> None:
    """What comes first after it is old, and the newest is still on its way."""
    feed = whole()
    feed.stale_after = 3.0
    for at, expected in ((1.0, True), (3.9, True), (7.0, False)):
        feed.hear(beat(5, at), at)
        assert is_whole(feed) == expected
    feed.page(page(5, at=BROKER_AHEAD + 7.1), feed.ask(), 7.1)
    feed.hear(beat(5, 3.9), 7.2)
    assert is_whole(feed) and feed.as_of == 7.0
    again = whole()
    again.stale_after = 3.0
    again.hear(beat(5, 2.0), 3.0)  # never heard of before
    assert not again.is_whole


def test_a_gap_is_seen_by_the_next_entry_and_by_a_heartbeat() -> None:
    """And closed by a page, also for what has come meanwhile."""
    entry = b'{"type":"family","n":8,"prev":7,"family_id":"f8","until":9}'
    for message in (entry, beat(6, 1.0)):
        feed = whole()
        feed.hear(message, 1.0)
        assert not is_whole(feed)
        after = feed.ask()
        assert after == 5
        feed.hear(b'{"type":"family","n":9,"prev":8,"family_id":"f9","until":9}', 1.0)
        feed.page(page(8), after, 1.0)
        assert is_whole(feed) and feed.n == 9


def test_an_unknown_type_counts_and_a_malformed_entry_makes_it_ask() -> None:
    """A later version may add types. What cannot be read is not passed over."""
    feed = whole()
    feed.hear(b'{"type":"news","n":6,"prev":5}', 1.0)
    assert is_whole(feed) and feed.n == 6
    for message in (b'{"type":"family","n":7,"prev":6}', b"junk", b"\xff", b"[]", b"{}", beat(5, 1.0, "another")):
        feed = whole()
        feed.hear(message, 1.0)
        assert not is_whole(feed)
    with pytest.raises(msgspec.DecodeError):
        feed.page(Page("one", 6, 0.0, False, [msgspec.Raw(b'{"type":"family","n":6}')]), feed.ask(), 1.0)


def test_keys_come_with_entries_and_go_with_pages() -> None:
    """A new key is good at once; one that the page lacks is gone, unless it is newer than the page."""
    feed, one, other = whole(), Issuer(kid="one"), Issuer(kid="other")
    for n, issuer in ((6, one), (7, other)):
        entry = {"type": "key", "n": n, "prev": n - 1, "kid": issuer.kid, "jwk": issuer.jwk(), "status": "next"}
        feed.hear(json.dumps(entry).encode(), 1.0)
    feed.keys.signed(one.token())
    feed.page(page(6), 5, 1.0)
    assert set(feed.jwks) == {"other"}
    feed.keys.signed(other.token())
    for n in range(8, 8 + MAX_KEYS + 5):
        entry = {
            "type": "key",
            "n": n,
            "prev": n - 1,
            "kid": f"k{n}",
            "jwk": one.jwk() | {"kid": f"k{n}"},
            "status": "next",
        }
        feed.hear(json.dumps(entry).encode(), 1.0)
    assert len(feed.jwks) == MAX_KEYS and is_whole(feed)
    with pytest.raises(ValueError, match="1,000 keys"):
        feed.page(page(200, keys=[one.jwk() | {"kid": f"k{n}"} for n in range(1000)]), feed.ask(), 1.0)
    assert not is_whole(feed)
