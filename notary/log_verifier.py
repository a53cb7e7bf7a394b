"""Verifying the whole log: every commit as `events.verification.verifier` does, and every checkpoint of it.

The two know different things. The chain of an aggregate says which commit was altered, but nothing of what came last;
a checkpoint vouches for everything before it, but only says between which sequences the history differs.
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from events.aggregates.subjects import CHECKPOINT, CHECKPOINTS, STREAM
from events.log.stored_commit import Stored
from events.verification.aggregate_store import AggregateStore, Unusable, saved_progress
from events.verification.verifier import Fault, Report, Tally, Verifier
from events.worker.child import serve
from notary.checkpoint import read_checkpoint
from notary.checkpoint_checker import CheckpointChecker, CheckState
from notary.signed_note import parse_key

MODULE = "notary.log_verifier"
"""The name by which `run_worker` starts it."""


class Terms(NamedTuple):
    """What the log is held against: verifier keys, and a checkpoint that was kept, as they are written."""

    keys: tuple[str, ...] = ()
    kept: str | None = None


class VerificationProgress(NamedTuple):
    """How far a verification on these terms has come with the log that is called `log`."""

    log: str
    terms: Terms = Terms()
    tally: Tally = Tally()
    seen: CheckState = CheckState()


class Work(NamedTuple):
    """What the verifying process is to do: from `resumed` up to sequence `end`. Broken off, it writes `interrupted`."""

    progress: VerificationProgress
    end: int
    resumed: str | None = None
    interrupted: str | None = None


class LogVerifier:
    """Feed it the log in order with `check`, then `end` it. Raises `MalformedNote` for terms that are malformed."""

    def __init__(self, progress: VerificationProgress, remembered: AggregateStore | None = None) -> None:
        self._log, terms, tally, seen = progress
        self._terms = terms
        self._commits = Verifier(remembered, tally)
        kept = None if terms.kept is None else read_checkpoint(terms.kept.encode())
        self._checker = CheckpointChecker([parse_key(key) for key in terms.keys], kept, seen)

    def check(self, messages: Sequence[Stored]) -> None:
        """The next messages: commits, and checkpoints in their places."""
        start = 0
        for place in [place for place, stored in enumerate(messages) if stored.subject == CHECKPOINT]:
            self._read(messages[start:place])
            self._checker.check(messages[place])
            start = place + 1
        self._read(messages[start:])

    def end(self, size: int) -> None:
        """There is nothing more; the log is said to have so many messages."""
        self._checker.end(size)

    def progress(self) -> VerificationProgress:
        """To go on from, with what is remembered by then."""
        self._commits.remember()
        return VerificationProgress(self._log, self._terms, self._commits.tally, self._checker.state())

    def report(self) -> Report:
        """So far. The fault is the chain's where it lies within what the checkpoints found, since it is exact."""
        report = self._commits.report()
        found = self._checker.contradiction
        if found is not None and (report.fault is None or report.fault.seq > found.last):
            seq, stream = (found.checkpoint, CHECKPOINTS) if found.checkpoint else (found.first, STREAM)
            report = report._replace(fault=Fault(seq, found.why, stream=stream), faulty=max(report.faulty, 1))
        seen = self._checker
        return report._replace(
            checkpoints=seen.checkpoints - seen.strangers,
            covered=seen.covered,
            strangers=report.strangers + seen.strangers,
            foreign=report.foreign + seen.foreign,
        )

    def _read(self, commits: Sequence[Stored]) -> None:
        for stored in commits:
            self._commits.check(stored)
        self._checker.read(commits)


def interrupted(path: Path) -> VerificationProgress:
    """What a verification that did not come to its end has written. Raises `Unusable`."""
    try:
        return msgspec.json.decode(saved_progress(path), type=VerificationProgress)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unusable(f"{path} was written by another version: {error}") from error


def main() -> None:
    """A process that verifies what it is handed (`events.worker.parent`). An empty batch is the end of the log."""
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

    def check(messages: list[Stored]) -> bytes:
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
