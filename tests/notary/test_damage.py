"""Copies of the log that were tampered with: each is found, with the first bad sequence where it can be known."""

import pytest

from events.commit import digest
from events.log import Stored
from events.verify import Report
from notary import witness
from notary.checkpoint import Checkpoint, sign
from notary.note import Signer
from notary.verify import LogVerifier, Terms, of_nothing
from tests.notary.logs import tree_of, vouch, vouched_log
from tests.projections.logs import LogMaker

SIGNER, STRANGER = Signer.fresh("heirloom/1"), Signer.fresh("heirloom/1")
LOG = vouched_log(SIGNER).log
KEPT = sign(SIGNER, tree_of(LOG[:19]))


def verify(log: list[Stored], *, kept: Checkpoint | None = None, keys: tuple[str, ...] = (str(SIGNER.key),)) -> Report:
    """The report on a copy, whose sequences have no gap whatever was done."""
    copy = [stored._replace(seq=seq) for seq, stored in enumerate(log, 1)]
    verifier = LogVerifier(Terms(keys, None if kept is None else kept.signed, len(copy)))
    for stored in copy:
        verifier.check(stored)
    return verifier.report()


def found(log: list[Stored], *, kept: Checkpoint | None = None) -> tuple[int, str]:
    """The first bad sequence, and why."""
    fault = verify(log, kept=kept).fault
    assert fault is not None
    return fault.seq, fault.why


def replaced(seq: int, body: bytes) -> list[Stored]:
    """The log with another body there."""
    return [stored._replace(body=body) if stored.seq == seq else stored for stored in LOG]


def test_an_honest_log_agrees_with_its_checkpoints() -> None:
    """Also with those that lie later than what they cover, and with every checkpoint anybody kept."""
    assert verify(LOG) == Report(22, 6, 6, 0, None, 3, 19)
    for size in range(1, 23):
        assert verify(LOG, kept=sign(SIGNER, tree_of(LOG[:size]))).fault is None
    assert verify(LOG, keys=()).fault is None
    assert of_nothing(Terms()).fault is None


def test_one_byte_flipped() -> None:
    """Any byte of any message that a checkpoint covers; named to the message, or to what one checkpoint covers."""
    for seq in (4, 6, 9, 15, 17, 19):
        body = LOG[seq - 1].body
        for place in range(0, len(body), 7):
            bad, why = found(replaced(seq, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]))
            if bad != seq:
                first = max(size for size in (0, 6, 13) if size < seq) + 1
                # the `prev` of a commit and the commit before it accuse each other: both are named
                accused = "was chained" in why and LOG[bad - 1].subject == LOG[seq - 1].subject
                assert accused or (bad == first and f"{first} to" in why), (seq, place, bad, why)


def test_one_byte_of_a_checkpoint_flipped() -> None:
    """Whatever byte it is."""
    body = LOG[13].body
    for place in range(len(body)):
        assert found(replaced(14, body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]))[0] == 14


def test_a_commit_dropped() -> None:
    """Even the last of its family, which nothing follows."""
    for seq in range(1, 20):
        bad, why = found([stored for stored in LOG if stored.seq != seq])
        first = max((size for size in (0, 6, 13) if size + 1 < seq), default=0) + 1
        assert (bad == first and f"{first} to" in why) or seq <= bad <= seq + 7, (seq, bad, why)


def test_two_swapped() -> None:
    """Neighbours, of one family or of two."""
    for seq in range(1, 19):
        swapped = [*LOG[: seq - 1], LOG[seq], LOG[seq - 1], *LOG[seq + 1 :]]
        bad, why = found(swapped)
        first = max(size for size in (0, 6, 13) if size < seq) + 1
        assert bad in (seq, seq + 1) or (first <= bad <= seq + 7), (seq, bad, why)


def test_a_tail_cut() -> None:
    """Only somebody who kept a checkpoint can know."""
    assert verify(LOG[:16]).fault is None
    seq, why = found(LOG[:16], kept=KEPT)
    assert seq == 17
    assert "covers 19 commits, the log ends at 16" in why
    report = of_nothing(Terms(kept=KEPT.signed))
    assert report.fault is not None
    assert report.fault.seq == 1


def test_a_forged_commit_appended() -> None:
    """One that repeats what was, one in the place of another; and a well-made one where a tail was cut."""
    assert found([*LOG, LOG[15]])[0] == 23
    forged = vouched_log(SIGNER)
    forged.log[19:] = []
    assert verify(forged.log).fault is None
    cut = LogMaker()
    cut.log, cut._last = list(LOG[:16]), {}
    for number in range(8):
        cut.open(f"forged{number}")
    assert verify(cut.log).fault is None  # every commit follows: by itself this log looks right
    seq, why = found(cut.log, kept=KEPT)
    assert (seq, "14 to 19" in why) == (14, True)


def test_a_checkpoint_signed_again_over_another_history() -> None:
    """By a stranger it is no checkpoint; by a thief of the key it is betrayed by the one that was kept."""
    other = _rewritten(STRANGER)
    assert found(other)[0] == 7
    stolen = _rewritten(SIGNER)
    assert verify(stolen).fault is None
    assert found(stolen, kept=KEPT) == (
        14,
        "history differs somewhere in 14 to 19: the checkpoint that was kept was signed over another one",
    )


def test_checkpoints_that_go_back() -> None:
    """One of a smaller size than the one before, one over itself, one that is none."""
    for body in (sign(SIGNER, tree_of(LOG[:5])).signed, "nothing"):
        assert found(replaced(14, body.encode()))[0] == 14
    assert found(replaced(14, sign(SIGNER, tree_of(LOG[:14])).signed.encode()))[0] == 7


def test_a_gap() -> None:
    """A sequence that is missing from the stream itself."""
    verifier = LogVerifier(Terms((str(SIGNER.key),)))
    for stored in LOG:
        if stored.seq != 9:
            verifier.check(stored)
    fault = verifier.report().fault
    assert fault is not None
    assert fault.seq == 9


def test_a_checkpoint_that_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it covers is no longer remembered, so it is not believed."""
    monkeypatch.setattr(witness, "REMEMBERED", 4)
    assert verify(LOG).fault is None
    made = LogMaker()
    made.log = list(LOG[:13])
    vouch(made, SIGNER, 8)
    seq, why = found(made.log)
    assert (seq, "came too late" in why) == (14, True)


def _rewritten(signer: Signer) -> list[Stored]:
    """Another history from sequence 15 on, every commit of it in order, all checkpoints signed by `signer`."""
    made = LogMaker()
    for number in range(6):
        made.open(f"f{number}")
    vouch(made, signer)
    for number in range(6):
        made.rotate(f"f{number}")
    vouch(made, signer)
    for number in range(5, 0, -1):
        made.rotate(f"f{number}")
    vouch(made, signer)
    assert digest(made.log[12].body) == digest(LOG[12].body)
    return made.log
