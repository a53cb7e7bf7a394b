"""What clients asked and heard, and what was done to the service meanwhile: recorded as JSON Lines, never a token.

Every request is one `invoke` and one completion: `ok`, `fail` (refused for good: it had no effect but what a refusal
writes) or `info` (nobody knows). A token appears as family, generation and a digest that only tells it from others.
"""

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import msgspec

from events import base62

Kind: TypeAlias = Literal["issue", "refresh", "introspect", "revoke", "witness"]
Outcome: TypeAlias = Literal["ok", "fail", "info"]
NEVER = float("inf")


class Record(msgspec.Struct, omit_defaults=True):
    """One line. `at` is in seconds since the history began; `id` ties a completion to its `invoke`."""

    type: Literal["invoke", "ok", "fail", "info", "fault"]
    at: float
    id: int = 0
    kind: Kind | None = None
    why: str | None = None
    family: str | None = None
    grace: bool | None = None
    generation: int | None = None
    key: str | None = None
    successor: str | None = None
    commit: str | None = None
    seq: int | None = None
    active: bool | None = None
    revoked: bool | None = None
    error: str | None = None


class Operation(msgspec.Struct):
    """A request with its answer. `ended` is `NEVER` where the outcome is unknown: it may take effect at any time.

    `why` is its part in the mix; `generation` the presented one; `key` its Idempotency-Key. `commit` is the id of the
    commit it was answered with, `successor` the digest of the refresh token. A witness reads the log itself: `seq`,
    `revoked` and the `generation` it found.
    """

    id: int
    kind: Kind
    began: float
    ended: float = NEVER
    outcome: Outcome = "info"
    why: str = ""
    family: str = ""
    grace: bool = False
    generation: int = -1
    key: str | None = None
    successor: str | None = None
    to: int = -1
    commit: str | None = None
    seq: int = 0
    active: bool | None = None
    revoked: bool | None = None
    error: str | None = None


class History:
    """Writes the file, and keeps the operations."""

    def __init__(self, file: Path) -> None:
        self._out: BinaryIO = file.open("wb")
        self._start = time.monotonic()
        self.operations: list[Operation] = []
        self.faults: list[tuple[float, str]] = []

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    def invoke(
        self,
        kind: Kind,
        why: str,
        family: str = "",
        *,
        grace: bool = False,
        generation: int = -1,
        key: str | None = None,
    ) -> Operation:
        """A request is about to be sent."""
        operation = Operation(
            len(self.operations) + 1,
            kind,
            self.now(),
            why=why,
            family=family,
            grace=grace,
            generation=generation,
            key=key,
        )
        self.operations.append(operation)
        about = generation if generation >= 0 else None
        self._write(
            Record("invoke", operation.began, operation.id, kind, why, family or None, grace or None, about, key)
        )
        return operation

    def complete(self, operation: Operation, outcome: Outcome) -> None:
        """It was answered, or given up; what it was answered with is in the operation already."""
        now = self.now()
        operation.outcome = outcome
        operation.ended = NEVER if outcome == "info" else now
        self._write(
            Record(
                outcome,
                now,
                operation.id,
                family=operation.family or None,
                generation=operation.to if operation.to >= 0 else None,
                successor=operation.successor,
                commit=operation.commit,
                seq=operation.seq or None,
                active=operation.active,
                revoked=operation.revoked,
                error=operation.error,
            )
        )

    def fault(self, what: str) -> None:
        """Something is done to the service now."""
        self.faults.append((self.now(), what))
        self._write(Record("fault", self.now(), why=what))

    def close(self) -> None:
        """The file is complete."""
        self._out.close()

    def _write(self, record: Record) -> None:
        self._out.write(msgspec.json.encode(record) + b"\n")


def digest(token: str) -> str:
    """Enough to tell two tokens apart; nothing can be presented with it."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def generation_of(token: str) -> int:
    """What a refresh token says of itself: prefix (4), key (2), family (22), generation (6)."""
    number = base62.decode_int(token[28:34])
    assert number is not None
    return number


def in_order(operations: Iterable[Operation]) -> list[tuple[Operation, bool]]:
    """Beginnings (False) and ends (True) as they happened; what happened at one moment is called concurrent."""
    moments = [(operation.began, False, operation) for operation in operations]
    moments += [(operation.ended, True, operation) for operation in operations if operation.ended != NEVER]
    moments.sort(key=lambda moment: moment[:2])
    return [(operation, ended) for _, ended, operation in moments]
