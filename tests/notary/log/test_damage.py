"""Tampered copies of the log: each is detected, with the first bad sequence where that can be known."""

import pytest
from msgspec.structs import replace

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS
from events.aggregates.commit import digest
from events.log.stored_message import StoredMessage
from events.verification.verifier import Report
from notary.checkpoint import Checkpoint, sign
from notary.log_verifier import LogVerifier, Terms, VerificationProgress
from notary.signed_note import Signer
from tests.notary.log.logs import checkpoints_of, in_place, rotated_log, tree_of
from tests.projections.logs import LogMaker

SIGNER, STRANGER = Signer.fresh("heirloom/1"), Signer.fresh("heirloom/1")
LOG = rotated_log(0, 1, 2, 3, 4, 0).log
SIZES = 6, 12, 17
VOUCHED = checkpoints_of(LOG, SIGNER, *SIZES)
KEPT = VOUCHED[-1]


def verify(
    log: list[StoredMessage],
    vouched: list[Checkpoint] = VOUCHED,
    *,
    kept: Checkpoint | None = None,
    keys: tuple[str, ...] = (str(SIGNER.key),),
) -> Report:
    """The report on a copy, which is numbered without a gap after the change."""
    copy = [replace(stored, seq=seq) for seq, stored in enumerate(log, 1)]
    return report(in_place(copy, vouched), len(copy), Terms(keys, None if kept is None else kept.signed))


def report(messages: list[StoredMessage], size: int, terms: Terms = Terms((str(SIGNER.key),))) -> Report:  # noqa: B008
    """The report on these messages of a log of that size."""
    verifier = LogVerifier(VerificationProgress("", terms))
    verifier.check(messages)
    verifier.end(size)
    return verifier.report()


def found(
    log: list[StoredMessage], vouched: list[Checkpoint] = VOUCHED, *, kept: Checkpoint | None = None
) -> tuple[int, str]:
    """The first bad sequence, and the reason."""
    fault = verify(log, vouched, kept=kept).fault
    assert fault is not None
    return fault.seq, fault.why


def replaced(seq: int, body: bytes) -> list[StoredMessage]:
    """The log with another body at that sequence."""
    return [replace(stored, body=body) if stored.seq == seq else stored for stored in LOG]


def first_of(seq: int) -> int:
    """The first sequence that the first checkpoint over `seq` covers and the one before it does not."""
    return max(size for size in (0, *SIZES) if size < seq) + 1


def test_an_honest_log_agrees_with_its_checkpoints() -> None:
    """And with every kept checkpoint; also without a known key, and when the log is empty."""
    honest = Report(messages=19, commits=19, aggregates=6, families=6, faulty=0, fault=None, checkpoints=3, covered=17)
    assert verify(LOG) == honest
    for size in range(1, 20):
        assert verify(LOG, kept=sign(SIGNER, tree_of(LOG[:size]))).fault is None
    assert verify(LOG, keys=()).fault is None
    assert verify([], []).fault is None


def test_one_byte_flipped() -> None:
    """Any byte of any covered message: the report names that message, or what one checkpoint covers."""
    for seq in (4, 6, 8, 13, 15, 17):
        body = LOG[seq - 1].body
        for place in range(0, len(body), 7):
            bad, why = found(replaced(seq, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]))
            if bad != seq:
                first = first_of(seq)
                # the `prev` of a commit contradicts the commit before it: either of the two may be named
                accused = "was chained" in why and LOG[bad - 1].subject == LOG[seq - 1].subject
                assert accused or (bad == first and f"{first} to" in why), (seq, place, bad, why)


def test_one_byte_of_a_checkpoint_flipped() -> None:
    """Any byte of it: it is then named as a foreign message."""
    messages = in_place(LOG, VOUCHED)
    place = next(place for place, stored in enumerate(messages) if stored.subject == CHECKPOINT and stored.seq == 2)
    body = messages[place].body
    for index in range(len(body)):
        flipped = replace(messages[place], body=body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :])
        seen = report([*messages[:place], flipped, *messages[place + 1 :]], len(LOG))
        assert [(found.seq, found.stream) for found in seen.foreign] == [(2, CHECKPOINTS)]


def test_a_commit_dropped() -> None:
    """Also the last commit of its family, which no `prev` refers to."""
    for seq in range(1, 18):
        bad, why = found([stored for stored in LOG if stored.seq != seq])
        first = first_of(seq)
        assert (bad == first and (f"{first} to" in why or first == seq)) or seq <= bad <= seq + 7, (seq, bad, why)


def test_two_swapped() -> None:
    """Neighbours, of one family or of two families."""
    for seq in range(1, 17):
        swapped = [*LOG[: seq - 1], LOG[seq], LOG[seq - 1], *LOG[seq + 1 :]]
        bad, why = found(swapped)
        assert bad in (seq, seq + 1) or (first_of(seq) <= bad <= seq + 7), (seq, bad, why)


def test_a_tail_cut() -> None:
    """The checkpoints show it; a kept one also where they were truncated with the log."""
    for vouched, kept in ((VOUCHED, None), (VOUCHED[:2], KEPT)):
        seq, why = found(LOG[:14], vouched, kept=kept)
        assert seq == 15
        assert "covers 17 commits, the log ends at 14" in why
    assert verify(LOG[:14], VOUCHED[:2]).fault is None
    assert found([])[0] == 1
    assert found([], [], kept=KEPT)[0] == 1


def test_a_forged_commit_appended() -> None:
    """A repeated commit; and well-formed commits in place of a truncated tail."""
    assert found([*LOG, LOG[15]])[0] == 20
    cut = LogMaker()
    cut.log, cut._last = list(LOG[:14]), {}
    for number in range(8):
        cut.open(f"forged{number}")
    assert verify(cut.log, VOUCHED[:2]).fault is None  # the chains are consistent: the log alone looks right
    for vouched, kept in ((VOUCHED, None), (VOUCHED[:2], KEPT)):
        seq, why = found(cut.log, vouched, kept=kept)
        assert (seq, "13 to 17" in why) == (13, True)


def test_a_checkpoint_signed_again_over_another_history() -> None:
    """A stranger's signature counts for nothing; a thief's, by the real key, contradicts the kept checkpoint."""
    other = rotated_log(0, 4, 3, 2, 1, 0).log
    assert [digest(stored.body) for stored in other[:13]] == [digest(stored.body) for stored in LOG[:13]]
    seen = verify(other, checkpoints_of(other, STRANGER, *SIZES))
    assert (seen.fault, seen.checkpoints, seen.covered, seen.foreign_count) == (None, 0, 0, 3)
    assert {found.reason for found in seen.foreign} == {"a checkpoint that no known key has signed"}
    stolen = checkpoints_of(other, SIGNER, *SIZES)
    assert verify(other, stolen).fault is None
    assert found(other, stolen, kept=KEPT) == (
        13,
        "history differs somewhere in 13 to 17: the checkpoint of size 17 was signed over another one",
    )
    assert found(LOG, [*VOUCHED[:2], stolen[2]])[0] == 13


def test_checkpoints_that_go_back_or_are_missing() -> None:
    """A smaller size than the one before, one twice, one removed from its stream."""
    seen = verify(LOG, [*VOUCHED[:2], *checkpoints_of(LOG, SIGNER, 5)])
    (back,) = seen.foreign
    assert (back.seq, back.stream, back.reason) == (3, CHECKPOINTS, "a checkpoint of size 5 after one of size 12")
    assert (seen.fault, seen.covered) == (None, 12)
    assert [again.seq for again in verify(LOG, [VOUCHED[0], VOUCHED[0]]).foreign] == [2]
    messages = [stored for stored in in_place(LOG, VOUCHED) if (stored.seq, stored.subject) != (2, CHECKPOINT)]
    fault = report(messages, len(LOG)).fault
    assert fault is not None
    assert (fault.seq, fault.stream) == (2, CHECKPOINTS)


@pytest.mark.parametrize("missing", [9, 19])
def test_a_missing_sequence(missing: int) -> None:
    """Within the stream, and at its end."""
    fault = report([stored for stored in LOG if stored.seq != missing], len(LOG), Terms()).fault
    assert fault is not None
    assert fault.seq == missing


def test_a_checkpoint_in_the_place_of_a_commit() -> None:
    """It is not taken for a message of the checkpoints' own stream."""
    disguised = replace(LOG[8], subject=CHECKPOINT, body=VOUCHED[0].signed.encode())
    assert report([*LOG[:8], disguised, *LOG[9:]], len(LOG)).fault is not None


def test_junk_among_the_checkpoints_hides_no_real_one() -> None:
    """A writer without a key can publish junk there: it is named, and the real ones agree as before."""
    huge = checkpoints_of(LOG, STRANGER, len(LOG))[0]
    huge = huge._replace(signed=huge.signed.replace(f"\n{len(LOG)}\n", "\n999999\n"))
    messages = in_place(LOG, VOUCHED)
    for place in (0, 9, 15, len(messages) + 3):
        messages.insert(place, StoredMessage(0, CHECKPOINT, huge.signed.encode()))
    places = [place for place, stored in enumerate(messages) if stored.subject == CHECKPOINT]
    for seq, place in enumerate(places, 1):
        messages[place] = replace(messages[place], seq=seq)
    seen = report(messages, len(LOG))
    assert (seen.fault, seen.foreign_count, seen.checkpoints, seen.covered) == (None, 4, 3, SIZES[-1])
