"""The log verifier by itself: how findings become a report, and what the verifying process does."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, STREAM
from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from events.verification import aggregate_store as memory
from events.verification.aggregate_store import AggregateStore, Unusable
from events.verification.verifier import Fault, Report, Tally
from notary import log_verifier
from notary.checkpoint_checker import CheckState, Contradiction
from notary.log_verifier import LogVerifier, Terms, VerificationProgress, Work, interrupted
from notary.signed_note import MalformedNote, Signer
from tests.notary.log.logs import checkpoints_of, in_place, rotated_log

SIGNER = Signer.fresh("heirloom/1")
LOG = rotated_log(0).log
"""14 commits of six families."""
VOUCHED = checkpoints_of(LOG, SIGNER, 3, 4, 9)
MESSAGES = in_place(LOG, VOUCHED)
TERMS = Terms((str(SIGNER.key),), checkpoints_of(LOG, SIGNER, 7)[0].signed)
HONEST = Report(messages=14, commits=14, aggregates=6, families=6, faulty=0, fault=None, checkpoints=3, covered=9)


def test_checkpoints_are_compared_in_their_places() -> None:
    """However the messages are split into batches."""
    for size in (1, 2, 5, len(MESSAGES)):
        verifier = LogVerifier(VerificationProgress("log", TERMS))
        for place in range(0, len(MESSAGES), size):
            verifier.check(MESSAGES[place : place + size])
        verifier.end(14)
        assert verifier.report() == HONEST


def test_the_terms_are_applied() -> None:
    """With another key than the signer's, and with a kept checkpoint of another log."""
    verifier = LogVerifier(VerificationProgress("log", Terms((str(Signer.fresh("heirloom/2").key),))))
    verifier.check(MESSAGES)
    assert (verifier.report().checkpoints, verifier.report().foreign_count, verifier.report().covered) == (0, 3, 0)
    (other,) = checkpoints_of(rotated_log(1).log, SIGNER, 14)
    verifier = LogVerifier(VerificationProgress("log", Terms((), other.signed)))
    verifier.check(LOG)
    fault = verifier.report().fault
    assert fault is not None and "history differs somewhere in 1 to 14" in fault.why
    with pytest.raises(MalformedNote):
        LogVerifier(VerificationProgress("log", Terms(("nonsense",))))


def test_it_resumes_from_its_progress_alone() -> None:
    """That holds the log's name and the terms; messages missing at the end are reported."""
    with closing(AggregateStore()) as held:
        verifier = LogVerifier(VerificationProgress("log", TERMS), held)
        verifier.check(MESSAGES[:9])
        progress = verifier.progress()
        assert (progress.log, progress.terms) == ("log", TERMS)
        assert (progress.tally.messages, progress.seen.tree.size, progress.seen.checkpoints) == (7, 7, 2)
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
        ([], Contradiction(4, 4, "missing", checkpoint=1), Fault(1, "missing", stream=CHECKPOINTS), 1),
        ([], Contradiction(4, 4, "missing", checkpoint=2), Fault(2, "missing", stream=CHECKPOINTS), 1),
    ],
)
def test_the_chain_fault_wins_within_a_contradictions_range(
    faults: list[Fault], found: Contradiction | None, fault: Fault | None, faulty: int
) -> None:
    """It is exact there; a contradiction that ends before it wins."""
    tally = Tally(faults={str(place): each for place, each in enumerate(faults)})
    report = LogVerifier(VerificationProgress("log", Terms(), tally, CheckState(contradiction=found))).report()
    assert (report.fault, report.faulty) == (fault, faulty)


def test_foreign_messages_of_both_streams_are_counted() -> None:
    """None of them counts as a checkpoint."""
    lies, shown = Foreign(2, "tokens.x", "why", STREAM), Foreign(3, CHECKPOINT, "why", CHECKPOINTS)
    seen = CheckState(checkpoints=7, covered=4, foreign_count=2, foreign=(shown,))
    tally = Tally(messages=4, foreign_count=3, foreign={2: lies})
    report = LogVerifier(VerificationProgress("log", Terms(), tally, seen)).report()
    expected = Report(messages=4, commits=1, aggregates=0, families=0, faulty=0, fault=None)
    assert report == expected._replace(checkpoints=5, covered=4, foreign_count=5, foreign=(lies, shown))


def process(monkeypatch: pytest.MonkeyPatch, work: Work, *batches: list[StoredMessage]) -> Report:
    """Run the verifying process on these batches, here; returns its last report."""
    answers: list[bytes] = []

    def serve(handle: Callable[[list[StoredMessage]], bytes]) -> None:
        answers.extend(handle(batch) for batch in batches)

    monkeypatch.setattr(log_verifier, "serve", serve)
    monkeypatch.setattr(sys, "argv", ["verify", msgspec.json.encode(work).decode()])
    log_verifier.main()
    return msgspec.json.decode(answers[-1], type=Report)


def test_a_finished_process_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reports after every batch, and at the end what is missing."""
    work = Work(VerificationProgress("log", TERMS), 14, interrupted=str(tmp_path / "state"))
    assert process(monkeypatch, work, MESSAGES[:4], MESSAGES[4:], []) == HONEST
    report = process(monkeypatch, work._replace(end=16), MESSAGES, [])
    assert report.fault == Fault(15, "missing; the stream ends at 16")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_process_leaves_a_state_to_resume_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless no path is given; in bounded memory."""
    monkeypatch.setattr(memory, "MAX_RECENT", 2)
    state = tmp_path / "state"
    work = Work(VerificationProgress("log", TERMS), 14)
    assert process(monkeypatch, work, MESSAGES[:6]).commits == 4
    assert not list(tmp_path.iterdir())
    process(monkeypatch, work._replace(interrupted=str(state)), MESSAGES[:6])
    assert interrupted(state).tally.messages == 4
    went_on = Work(interrupted(state), 14, resumed=str(state))
    assert process(monkeypatch, went_on, MESSAGES[6:], []) == HONEST


def test_a_process_that_cannot_resume_fails_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = Work(VerificationProgress("log"), 14, resumed="/nowhere/state")
    with pytest.raises(SystemExit, match=r"^heirloom: /nowhere/state holds no interrupted verification: "):
        process(monkeypatch, gone, [])


@pytest.mark.parametrize("progress", [b"{}", b'["log"', b'["\xff"]', b"[1,2,3,4]"])
def test_another_versions_state_is_not_resumed(tmp_path: Path, progress: bytes) -> None:
    with closing(AggregateStore()) as held:
        held.save(tmp_path / "state", progress)
    with pytest.raises(Unusable, match=f"^{tmp_path}/state was written by another version: "):
        interrupted(tmp_path / "state")
