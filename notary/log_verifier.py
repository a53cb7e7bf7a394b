"""Verifies the whole log: the commits with `events.verification.verifier`, and the checkpoints.

The two find different faults. An aggregate's chain shows which commit was altered, but does not protect the last one;
a checkpoint protects everything before it, but only shows between which sequences the history differs.
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, STREAM
from events.log.stored_message import StoredMessage
from events.verification.aggregate_store import AggregateStore, Unusable, saved_progress
from events.verification.verifier import Fault, Report, Tally, Verifier
from events.worker.child import serve
from notary.checkpoint import read_checkpoint
from notary.checkpoint_checker import CheckpointChecker, CheckState
from notary.signed_note import parse_key

MODULE = "notary.log_verifier"
"""The name by which `run_worker` starts it."""


class Terms(NamedTuple):
    """What the log is compared with: verifier keys, and a checkpoint that was kept, both as text."""

    keys: tuple[str, ...] = ()
    kept: str | None = None


class VerificationProgress(NamedTuple):
    """The progress of a verification on these terms of the log with that name (when its stream was created)."""

    log: str
    terms: Terms = Terms()
    tally: Tally = Tally()
    seen: CheckState = CheckState()


class Work(NamedTuple):
    """The worker's task: go on from the file `resumed` up to sequence `end`; if stopped, write `interrupted`."""

    progress: VerificationProgress
    end: int
    resumed: str | None = None
    interrupted: str | None = None


class LogVerifier:
    """Receives the log in order by `check`, and then its `end`. Raises `MalformedNote` for malformed terms."""

    def __init__(self, progress: VerificationProgress, remembered: AggregateStore | None = None) -> None:
        self._log, terms, tally, seen = progress
        self._terms = terms
        self._commits = Verifier(remembered, tally)
        kept = None if terms.kept is None else read_checkpoint(terms.kept.encode())
        self._checker = CheckpointChecker([parse_key(key) for key in terms.keys], kept, seen)

    def check(self, messages: Sequence[StoredMessage]) -> None:
        """Check the next messages: commits, and checkpoints after the last commit that they cover."""
        start = 0
        for place in [place for place, stored in enumerate(messages) if stored.subject == CHECKPOINT]:
            self._read(messages[start:place])
            self._checker.check(messages[place])
            start = place + 1
        self._read(messages[start:])

    def end(self, size: int) -> None:
        """End the verification. The log should have `size` messages."""
        self._checker.end(size)

    def progress(self) -> VerificationProgress:
        """Return the progress, after all states are in the store: another verification can go on from both."""
        self._commits.remember()
        return VerificationProgress(self._log, self._terms, self._commits.tally, self._checker.state)

    def report(self) -> Report:
        """Return the findings so far. A fault of a chain goes first if it is within the range of a checkpoint's."""
        report = self._commits.report()
        found = self._checker.state.contradiction
        if found is not None and (report.fault is None or report.fault.seq > found.last):
            seq, stream = (found.checkpoint, CHECKPOINTS) if found.checkpoint else (found.first, STREAM)
            report = report._replace(fault=Fault(seq, found.why, stream=stream), faulty=max(report.faulty, 1))
        seen = self._checker.state
        return report._replace(
            checkpoints=seen.checkpoints - seen.foreign_count,
            covered=seen.covered,
            foreign_count=report.foreign_count + seen.foreign_count,
            foreign=report.foreign + seen.foreign,
        )

    def _read(self, messages: Sequence[StoredMessage]) -> None:
        for stored in messages:
            self._commits.check(stored)
        self._checker.read(messages)


def interrupted(path: Path) -> VerificationProgress:
    """Read the progress of an interrupted verification. Raises `Unusable`."""
    try:
        return msgspec.json.decode(saved_progress(path), type=VerificationProgress)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} was written by another version: {error}") from error


def main() -> None:
    """Run the worker process (`events.worker.parent`). An empty batch marks the end of the log."""
    try:
        _work()
    except Unusable as unusable:
        sys.exit(f"heirloom: {unusable}")


def _work() -> None:
    work = msgspec.json.decode(sys.argv[1], type=Work)
    with closing(AggregateStore(Path(work.resumed) if work.resumed else None)) as remembered:
        _verify(work, remembered)


def _verify(work: Work, remembered: AggregateStore) -> None:
    verifier = LogVerifier(work.progress, remembered)
    ended = False

    def check(messages: list[StoredMessage]) -> bytes:
        nonlocal ended
        if messages:
            verifier.check(messages)
            remembered.make_room()
        else:
            verifier.end(work.end)
            ended = True
        return msgspec.json.encode(verifier.report())

    serve(check)
    if not ended and work.interrupted:
        remembered.save(Path(work.interrupted), msgspec.json.encode(verifier.progress()))


if __name__ == "__main__":
    main()
