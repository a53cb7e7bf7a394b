"""Verifying the log by itself: what is reported of what was found, and what the verifying process does."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from events.aggregates.subjects import CHECKPOINT, CHECKPOINTS, STREAM
from events.log.grammar import Foreign
from events.log.stored_commit import Stored
from events.verification import aggregate_store as memory
from events.verification.aggregate_store import AggregateStore, Unusable
from events.verification.verifier import Fault, Report, Tally
from notary import log_verifier
from notary.checkpoint_checker import CheckState as Seen
from notary.checkpoint_checker import Contradiction
from notary.log_verifier import LogVerifier, Terms, VerificationProgress, Work, interrupted
from notary.signed_note import MalformedNote, Signer
from tests.notary.log.logs import checkpoints_of, in_place, rotated_log

SIGNER = Signer.fresh("heirloom/1")
LOG = rotated_log(0).log
"""14 commits of six families."""
VOUCHED = checkpoints_of(LOG, SIGNER, 3, 4, 9)
MESSAGES = in_place(LOG, VOUCHED)
TERMS = Terms((str(SIGNER.key),), checkpoints_of(LOG, SIGNER, 7)[0].signed)
HONEST = Report(14, 6, 6, 0, None, 3, 9)


def test_checkpoints_are_held_against_the_log_in_their_places() -> None:
    """One after the other, at the beginning and at the end of what is handed over, or alone."""
    for size in (1, 2, 5, len(MESSAGES)):
        verifier = LogVerifier(VerificationProgress("log", TERMS))
        for place in range(0, len(MESSAGES), size):
            verifier.check(MESSAGES[place : place + size])
        verifier.end(14)
        assert verifier.report() == HONEST


def test_the_terms_are_kept_to() -> None:
    """Another key than is known, and another log than was kept."""
    verifier = LogVerifier(VerificationProgress("log", Terms((str(Signer.fresh("heirloom/2").key),))))
    verifier.check(MESSAGES)
    assert (verifier.report().checkpoints, verifier.report().strangers, verifier.report().covered) == (0, 3, 0)
    (other,) = checkpoints_of(rotated_log(1).log, SIGNER, 14)
    verifier = LogVerifier(VerificationProgress("log", Terms((), other.signed)))
    verifier.check(LOG)
    fault = verifier.report().fault
    assert fault is not None and "history differs somewhere in 1 to 14" in fault.why
    with pytest.raises(MalformedNote):
        LogVerifier(VerificationProgress("log", Terms(("nonsense",))))


def test_what_it_has_come_to_is_all_that_it_goes_on_from() -> None:
    """The log's name and the terms with it; and the messages beyond the end are missing."""
    with closing(AggregateStore()) as held:
        verifier = LogVerifier(VerificationProgress("log", TERMS), held)
        verifier.check(MESSAGES[:9])
        progress = verifier.progress()
        assert (progress.log, progress.terms) == ("log", TERMS)
        assert (progress.tally.commits, progress.seen.tree.size, progress.seen.checkpoints) == (7, 7, 2)
        assert len(held) == 6, "one of each family"
        again = LogVerifier(progress, held)
        again.check(MESSAGES[9:])
        again.end(14)
        assert again.report() == HONEST
        again.end(15)
        fault = Fault(15, "missing; the stream ends at 15")
        assert again.report() == HONEST._replace(faulty=1, fault=fault)


CHAINS = Fault(5, "altered", 8)


@pytest.mark.parametrize(
    ("faults", "found", "fault", "faulty"),
    [
        ([], None, None, 0),
        ([CHAINS], None, CHAINS, 1),
        ([], Contradiction(3, 7, "differs"), Fault(3, "differs"), 1),
        ([CHAINS], Contradiction(3, 5, "differs"), CHAINS, 1),
        ([CHAINS], Contradiction(3, 4, "differs"), Fault(3, "differs"), 1),
        ([CHAINS, Fault(9, "x")], Contradiction(3, 4, "differs"), Fault(3, "differs"), 2),
        ([], Contradiction(4, 4, "missing", 1), Fault(1, "missing", stream=CHECKPOINTS), 1),
        ([], Contradiction(4, 4, "missing", 2), Fault(2, "missing", stream=CHECKPOINTS), 1),
    ],
)
def test_the_fault_is_the_chains_within_what_a_checkpoint_found(
    faults: list[Fault], found: Contradiction | None, fault: Fault | None, faulty: int
) -> None:
    """Since it is exact; what the checkpoints found before it counts otherwise."""
    tally = Tally(faults={str(place): each for place, each in enumerate(faults)})
    report = LogVerifier(VerificationProgress("log", Terms(), tally, Seen(contradiction=found))).report()
    assert (report.fault, report.faulty) == (fault, faulty)


def test_strangers_of_both_streams_are_counted() -> None:
    """And none of them as a checkpoint."""
    lies, shown = Foreign(2, "tokens.x", "why", STREAM), Foreign(3, CHECKPOINT, "why", CHECKPOINTS)
    seen = Seen(checkpoints=7, covered=4, strangers=2, foreign=(shown,))
    report = LogVerifier(VerificationProgress("log", Terms(), Tally(strangers=3, foreign={2: lies}), seen)).report()
    assert report == Report(0, 0, 0, 0, None, 5, 4, 5, (lies, shown))


def process(monkeypatch: pytest.MonkeyPatch, work: Work, *batches: list[Stored]) -> Report:
    """What the verifying process does with these, here. The report is its last answer."""
    answers: list[bytes] = []

    def serve(handle: Callable[[list[Stored]], bytes]) -> None:
        answers.extend(handle(batch) for batch in batches)

    monkeypatch.setattr(log_verifier, "serve", serve)
    monkeypatch.setattr(sys, "argv", ["verify", msgspec.json.encode(work).decode()])
    log_verifier.main()
    return msgspec.json.decode(answers[-1], type=Report)


def test_a_process_that_comes_to_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports after every batch, and what is missing at the end."""
    work = Work(VerificationProgress("log", TERMS), 14, interrupted=str(tmp_path / "state"))
    assert process(monkeypatch, work, MESSAGES[:4], MESSAGES[4:], []) == HONEST
    report = process(monkeypatch, work._replace(end=16), MESSAGES, [])
    assert report.fault == Fault(15, "missing; the stream ends at 16")
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_broken_off_leaves_what_another_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless nobody wants it; in no more memory than is allowed."""
    monkeypatch.setattr(memory, "MAX_RECENT", 2)
    state = tmp_path / "state"
    work = Work(VerificationProgress("log", TERMS), 14)
    assert process(monkeypatch, work, MESSAGES[:6]).commits == 4
    assert not list(tmp_path.iterdir())
    process(monkeypatch, work._replace(interrupted=str(state)), MESSAGES[:6])
    assert interrupted(state).tally.commits == 4
    went_on = Work(interrupted(state), 14, resumed=str(state))
    assert process(monkeypatch, went_on, MESSAGES[6:], []) == HONEST


def test_a_process_that_cannot_go_on_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """To a person, and it fails."""
    gone = Work(VerificationProgress("log"), 14, resumed="/nowhere/state")
    with pytest.raises(SystemExit, match=r"^heirloom: /nowhere/state holds no interrupted verification: "):
        process(monkeypatch, gone, [])


@pytest.mark.parametrize("progress", [b"{}", b'["log"', b'["\xff"]', b"[1,2,3,4]"])
def test_what_another_version_left_is_not_gone_on_from(tmp_path: Path, progress: bytes) -> None:
    """It is named."""
    with closing(AggregateStore()) as held:
        held.save(tmp_path / "state", progress)
    with pytest.raises(Unusable, match=f"^{tmp_path}/state was written by another version: "):
        interrupted(tmp_path / "state")
