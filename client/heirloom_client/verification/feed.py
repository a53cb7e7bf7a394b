"""What a verifier knows of the revocation feed, and whether it may have missed something (contract §8); pure.

Times named `now` and `asked_at` are of this process's monotonic clock; others are NumericDates.
"""

from collections import deque
from typing import Any, TypeAlias

import msgspec

from heirloom_client.verification.access_token import MAX_KEYS, KeySet
from heirloom_client.verification.revoked import Revoked

MAX_AHEAD = 10_000
"""How many entries that came after a gap are kept in order; beyond these they are asked for once more."""


class _Entry(msgspec.Struct, frozen=True, tag_field="type", kw_only=True):
    n: int
    prev: int = 0


class FamilyEnded(_Entry, frozen=True, tag="family"):
    """A family."""

    family_id: str
    until: int


class TokenEnded(_Entry, frozen=True, tag="token"):
    """One access token, and those exchanged for it."""

    jti: str
    until: int


class ClientVoided(_Entry, frozen=True, tag="client"):
    """Tokens of a client: up to `void_until`, or all."""

    client_id: str
    until: int
    void_until: float | None = None


class KeyChanged(_Entry, frozen=True, tag="key"):
    """A signing key."""

    kid: str
    jwk: dict[str, Any]
    status: str


class Other(msgspec.Struct, frozen=True):
    """An entry of a type that this version does not know, and need not."""

    n: int
    type: str
    prev: int = 0


class Heartbeat(msgspec.Struct, frozen=True):
    """The whole log as of `at` is in that feed; the tenant's newest entry is `n`."""

    feed: str
    n: int
    at: float


class Page(msgspec.Struct, frozen=True):
    """All entries after those that were known, up to `n`, or with `more` some of them; `at` is before it was read."""

    feed: str
    n: int
    at: float
    more: bool
    entries: list[msgspec.Raw]
    issuer: str = ""
    keys: list[dict[str, Any]] = []


Entry: TypeAlias = FamilyEnded | TokenEnded | ClientVoided | KeyChanged
TYPES = ("family", "token", "client", "key")
_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_other = msgspec.json.Decoder(Other).decode
_decode_heartbeat = msgspec.json.Decoder(Heartbeat).decode


def _heartbeat(message: bytes) -> Heartbeat | None:
    try:
        return _decode_heartbeat(message)
    except msgspec.DecodeError:
        return None


def _entry(message: bytes | msgspec.Raw) -> Entry | Other:
    """The entry. Raises `msgspec.DecodeError` for one of a known type that is not as it must be."""
    try:
        entry: Entry = _decode_entry(message)
        return entry
    except msgspec.DecodeError:
        other = _decode_other(message)
        if other.type in TYPES:
            raise
        return other


class Feed:
    """Everything up to the entry `n` of the feed `name` is known."""

    def __init__(self) -> None:
        self.stale_after = float("inf")
        """After so long without news, ask before anything is believed: more of what was held up may be on its way."""
        self.name = ""
        self.n = 0
        self.issuer = ""
        self.revoked = Revoked()
        self.keys = KeySet()
        self.as_of = float("-inf")
        """Nothing of the log before this time is missing, as soon as the feed `is_whole`."""
        self.jwks: dict[str, tuple[int, dict[str, Any]]] = {}
        """Keys by `kid`, each with the number of the entry, or of the page, that it comes from."""
        self._newest = 0
        self._must_ask = True
        self._ahead: deque[tuple[int, int]] = deque(maxlen=MAX_AHEAD)
        self._asked_at = float("-inf")
        self._behind: float | None = None
        """This process's clock less the broker's, at most: by a question asked before the broker answered."""

    @property
    def is_whole(self) -> bool:
        """Whether no entry is known to be missing."""
        return self.n >= self._newest and not self._must_ask

    def connected(self) -> None:
        """A new connection, on which nothing was heard before: ask, also for what the broker's clock shows."""
        self._behind = None
        self._must_ask = True

    def hear(self, message: bytes, now: float) -> None:
        """Take in a heartbeat or an entry, as it came; what is neither makes it necessary to ask."""
        try:
            if (heartbeat := _heartbeat(message)) is None:
                entry = _entry(message)
                self._apply(entry)
                self._go_on(entry.prev, entry.n)
                return
        except msgspec.DecodeError:
            self._must_ask = True
            return
        if heartbeat.feed != self.name:
            self._must_ask = True
            return
        self._newest = max(self._newest, heartbeat.n)
        self._must_ask |= now >= max(self.as_of, self._asked_at) + self.stale_after
        if self._behind is not None:
            self.as_of = max(self.as_of, min(now, heartbeat.at + self._behind))

    def ask(self) -> int:
        """Begin to ask for what comes after the number that this returns.

        Entries are stored before they are heard, so all that was heard until now will be in the answer.
        """
        self._must_ask, self._newest = True, 0
        self._ahead.clear()
        return self.n

    def page(self, page: Page, after: int, asked_at: float) -> None:
        """Take in the answer to `ask`. Raises `ValueError` for too many keys, `msgspec.DecodeError` for a bad entry."""
        if page.feed != self.name or page.n < after:  # it was made anew, or has lost some; what is known stays so
            self.name, self.n = page.feed, 0
        for raw in page.entries:
            self._apply(_entry(raw))
        if not page.more:
            later = {kid: known for kid, known in self.jwks.items() if known[0] > page.n}
            self.use_keys({str(jwk.get("kid")): (page.n, jwk) for jwk in page.keys} | later)
            self.issuer = page.issuer
            behind = asked_at - page.at
            self._behind = behind if self._behind is None else max(self._behind, behind)
            self._asked_at = asked_at
        self._go_on(0, page.n)
        self._must_ask = page.more

    def _go_on(self, prev: int, n: int) -> None:
        """All up to `n` is known, if all up to `prev` is; and then perhaps what had come before its time."""
        self._newest = max(self._newest, n, prev)
        if prev > self.n:
            self._ahead.append((prev, n))
            return
        self.n = max(self.n, n)
        while self._ahead and self._ahead[0][0] <= self.n:
            self.n = max(self.n, self._ahead.popleft()[1])

    def _apply(self, entry: Entry | Other) -> None:
        match entry:
            case FamilyEnded():
                self.revoked.add(entry.family_id, entry.until)
            case TokenEnded():
                self.revoked.add(entry.jti, entry.until)
            case ClientVoided():
                self.revoked.void(entry.client_id, entry.until, entry.void_until)
            case KeyChanged():
                known = self.jwks | {entry.kid: (entry.n, entry.jwk)}
                newest = sorted(known.items(), key=lambda item: item[1][0])[-MAX_KEYS:]  # until the next page
                self.use_keys(dict(newest))
            case Other():
                pass

    def use_keys(self, jwks: dict[str, tuple[int, dict[str, Any]]]) -> None:
        """Accept what these keys have signed. Raises `ValueError` for too many."""
        self.keys = KeySet([jwk for _, jwk in jwks.values()])
        self.jwks = jwks
