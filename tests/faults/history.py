"""The requests and replies of clients, and the faults meanwhile, as JSON Lines without any token.

Every request is one `invoke` and one completion: `ok`, `fail` (refused for good: only the refusal itself may have
had an effect) or `info` (unknown). A token is recorded as family, generation and a digest that identifies it.
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
    """One line. `at` is in seconds since the start; `id` connects a completion with its `invoke`."""

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
    """A request with its reply. `ended` is `NEVER` if the outcome is unknown: it may take effect at any time.

    `why` is its part in the mix; `generation` the presented one; `key` its Idempotency-Key; `commit` the id of the
    reply's commit, `successor` the digest of its refresh token. A witness reads the log itself: `seq`, `revoked` and
    the `generation` it found.
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
        """Seconds since the start."""
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
        """Record a request before it is sent."""
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
        """Record the reply, which is in the operation already, or that there was none."""
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
        """Record a fault."""
        self.faults.append((self.now(), what))
        self._write(Record("fault", self.now(), why=what))

    def close(self) -> None:
        """Close the file."""
        self._out.close()

    def _write(self, record: Record) -> None:
        self._out.write(msgspec.json.encode(record) + b"\n")


def digest(token: str) -> str:
    """Enough to tell two tokens apart, and useless to a thief."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def generation_of(token: str) -> int:
    """The generation in a refresh token: prefix (4), key (2), family (22), generation (6)."""
    number = base62.decode_int(token[28:34])
    assert number is not None
    return number


def in_order(operations: Iterable[Operation]) -> list[tuple[Operation, bool]]:
    """Beginnings (False) and ends (True) in order; at the same moment they count as concurrent."""
    moments = [(operation.began, False, operation) for operation in operations]
    moments += [(operation.ended, True, operation) for operation in operations if operation.ended != NEVER]
    moments.sort(key=lambda moment: moment[:2])
    return [(operation, ended) for _, ended, operation in moments]
