"""Checks that an aggregate's next commit follows from its last one (CONTRACT §6, §7).

`prev` must be the SHA-256 of the message before it and `prev_seq` that message's sequence, the events must be able to
follow the state before them (`events.aggregates.following`), and the state after them must be the one in the commit.
"""

from datetime import datetime
from typing import Any

import msgspec

from events import base64url
from events.aggregates.commit import VERSION
from events.aggregates.following import time_goes_on
from events.aggregates.kinds import FAMILY, Kind
from events.log.grammar import belongs_on
from events.strict_json import Twice, refuse_a_key_twice

Checked = tuple[Any, datetime]
"""The state after a commit, and the commit's time."""
_encode = msgspec.json.Encoder().encode
_decode_time = msgspec.json.Decoder(datetime | None).decode


class BadCommit(Exception):
    """The commit itself is bad."""


class WrongPredecessor(BadCommit):
    """The commit follows another message, `followed`, than the aggregate's last commit."""

    def __init__(self, followed: int, last: int) -> None:
        super().__init__(f"it follows sequence {followed}, the aggregate's last commit is at {last}")
        self.followed = followed


class BrokenChain(Exception):
    """The commit before this one, at `accused`, was altered; everything else in this one follows."""

    def __init__(self, accused: int, checked: Checked) -> None:
        super().__init__("chained to another body")
        self.accused = accused
        self.checked = checked


class LastCommit(msgspec.Struct, gc=False):
    """An aggregate's last commit: sequence, digest, time, and the state after it, None if that is unknown."""

    kind: Kind
    seq: int
    digest: str
    state: Any
    at: datetime | None

    def encoded(self) -> bytes:
        """Encode it, for `decode_last`."""
        state = b"" if self.state is None else _encode(self.state)
        return self.seq.to_bytes(8) + base64url.decode(self.digest.encode()) + _encode(self.at) + b"\n" + state


def decode_last(kind: Kind, remembered: bytes) -> LastCommit | None:
    """Decode what `remembered` encoded; None for `b""`."""
    if not remembered:
        return None
    at, _, encoded = remembered[40:].partition(b"\n")
    digest = base64url.encode(remembered[8:40]).decode()
    state = kind.decode_state(encoded) if encoded else None
    return LastCommit(kind, int.from_bytes(remembered[:8]), digest, state, _decode_time(at))


def check(kind: Kind, aggregate: str, body: bytes, before: LastCommit | None, last_part: str) -> Checked:
    """Check the next commit of an aggregate against the one `before` it, if there is one.

    Raises `BadCommit`, `WrongPredecessor` if it follows another message, `BrokenChain` if the one before was altered.
    """
    try:
        commit = kind.decode_unfolded(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadCommit(f"unreadable: {error}") from error
    if not commit.events:
        raise BadCommit("it holds no events")
    if commit.v != VERSION:
        raise BadCommit(f"commit version {commit.v}, this program reads version {VERSION}")
    if commit.aggregate is not None and commit.aggregate != aggregate:
        raise BadCommit(f"it is of {commit.aggregate}, and lies on {aggregate}")
    expected_seq, digest, state = (before.seq, before.digest, before.state) if before else (0, None, None)
    if commit.prev_seq != expected_seq:
        raise WrongPredecessor(commit.prev_seq, expected_seq)
    try:
        events = kind.codec.whole_events(commit, state)
        folded, why = kind.fold(state, events, commit.at)
    except (ValueError, TypeError) as error:
        raise BadCommit(f"its events cannot follow: {error}") from error
    written = commit.state
    commit.state = kind.codec.without_events(folded, events)
    is_as_we_write = _encode(commit) == body
    if not is_as_we_write and not _means(kind, written, commit.state):
        raise BadCommit("its state is not what its events make of the state before")
    if kind is FAMILY and last_part != belongs_on(events):
        raise BadCommit(f"its events do not belong on …{last_part}")
    if why is not None:
        raise BadCommit(why)
    if not is_as_we_write:
        _refuse_a_key_twice(body)
    checked = folded, commit.at
    if commit.prev != digest:
        raise BrokenChain(expected_seq, checked)
    # of two times out of order either may be wrong; if the commit before was altered, its time is
    if before is not None and before.at is not None and (why := time_goes_on(before.at, commit.at)) is not None:
        raise BadCommit(why)
    return checked


def _refuse_a_key_twice(body: bytes) -> None:
    try:
        refuse_a_key_twice(body)
    except Twice as twice:
        raise BadCommit(str(twice)) from twice
    except (ValueError, RecursionError) as error:
        # Python's own decoder has limits that msgspec does not have when it skips an unknown field
        raise BadCommit(f"unreadable: {error}") from error


def _means(kind: Kind, written: msgspec.Raw, folded: Any) -> bool:
    """Whether a state that was encoded differently, perhaps by another version, means the same."""
    try:
        return bool(kind.decode_state(written) == folded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
