"""The log for the checker, with its own decoder and its own fold."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from events import base62
from events.log.stored_message import StoredMessage
from events.verification.verifier import Verifier
from tests.faults.history import Operation


class _Retry(msgspec.Struct):
    key: str


class _Event(msgspec.Struct):
    """`TokenRotated` leaves out the generation that its commit redeemed, and the next one (CONTRACT §6)."""

    type: str
    generation: int = -1
    from_generation: int | None = None
    to_generation: int | None = None
    reason: str | None = None
    retry: _Retry | None = None


class _Commit(msgspec.Struct):
    id: str
    events: tuple[_Event, ...]


_decode = msgspec.json.Decoder(_Commit).decode


class Family:
    """A family in the log: its rotations `(from_generation, commit id)`, and the reason of its end, if any.

    `keys` are the pairs of a generation and the digest of a key that redeemed it.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.rotations: list[tuple[int, str]] = []
        self.reason: str | None = None
        self.keys: set[tuple[int, str]] = set()


class LogIndex(NamedTuple):
    """Families by id; the sequences of every commit by its id; faults of the log itself as (rule, place)."""

    families: dict[str, Family]
    sequences: dict[str, list[int]]
    faults: list[tuple[str, str]]

    def is_harmless(self, presentation: Operation) -> bool:
        """Whether its key redeemed its generation: then it ends nothing, whenever it arrives."""
        family = self.families.get(presentation.family)
        if family is None or presentation.key is None:
            return False
        digest = base62.encode(hashlib.sha256(presentation.key.encode()).digest()[:16])
        return (presentation.generation, digest) in family.keys


def index(log: Iterable[StoredMessage]) -> LogIndex:
    """Index the whole log, given in order."""
    made = LogIndex({}, {}, [])
    verifier = Verifier()
    for stored in log:
        verifier.check(stored)
        fields = stored.subject.split(".")
        if fields[2:3] != ["family"]:
            continue
        commit = _decode(stored.body)
        made.sequences.setdefault(commit.id, []).append(stored.seq)
        family = made.families.setdefault(fields[3], Family())
        for event in commit.events:
            if fault := _take(family, event, commit):
                made.faults.append((fault, f"sequence {stored.seq}"))
    if bad := verifier.report().fault:
        made.faults.append(("the log verifies", f"sequence {bad.seq}: {bad.why}"))
    return made


def _take(family: Family, event: _Event, commit: _Commit) -> str | None:
    match event.type:
        case "TokenRotated":
            redeemed = next((other.generation for other in commit.events if other.type == "TokenRedeemed"), -1)
            start = redeemed if event.from_generation is None else event.from_generation
            end = start + 1 if event.to_generation is None else event.to_generation
            family.rotations.append((start, commit.id))
            contiguous = start == family.generation and end == family.generation + 1
            family.generation = end
            if family.reason is not None:
                return "a dead family stays dead"
            if not contiguous:
                return "generations are contiguous"
        case "TokenRedeemed" if event.retry is not None:
            family.keys.add((event.generation, event.retry.key))
        case "LateDuplicateRefused":
            if event.retry is None or (event.generation, event.retry.key) not in family.keys:
                return "a late duplicate has the key that redeemed its token"
        case "FamilyRevoked":
            if family.reason is not None:
                return "a family ends once"
            family.reason = event.reason
            detected = any(other.type == "TokenReuseDetected" for other in commit.events)
            if detected != (event.reason == "reuse_detected"):
                return "a reuse and the end it brings are one commit"
    return None
