"""The newest checkpoint is the largest that a known key has signed, whatever lies above it (ADR 0026)."""

from hypothesis import given
from hypothesis import strategies as st

from events.grammar import Foreign
from events.stored import Stored
from events.subjects import CHECKPOINT
from notary.checkpoint import LONGEST, Checkpoint, sign
from notary.merkle import Tree
from notary.newest import largest, read_known
from notary.note import Signer
from notary.witness import Witness

OURS, STRANGER = Signer.fresh("heirloom/ours"), Signer.fresh("heirloom/stranger")


@st.composite
def checkpoints(draw: st.DrawFn) -> list[Stored]:
    """Of ours and a stranger's, and what is none, in any order."""
    bodies = [
        b"junk",
        b"\n" * (LONGEST + 1),
        *(
            sign(signer, Tree().add(*[bytes(32)] * size)).signed.encode()
            for signer in (OURS, STRANGER)
            for size in range(5)
        ),
    ]
    chosen = draw(st.lists(st.sampled_from(bodies), max_size=12))
    return [Stored(seq, CHECKPOINT, body) for seq, body in enumerate(chosen, 1)]


@given(checkpoints())
def test_the_largest_that_a_known_key_has_signed_counts(stream: list[Stored]) -> None:
    """And what lies above it is named, as who reads all of them names it."""
    read = [(stored, read_known(stored, [])) for stored in stream]
    found: list[Foreign] = []
    newest = largest(read, [OURS.key], found.append)
    known = [(stored.seq, each) for stored in stream if isinstance(each := read_known(stored, [OURS.key]), Checkpoint)]
    assert newest == max((each for _, each in known), key=lambda each: each.size, default=None)
    first = next((seq for seq, each in known if each == newest), 0)
    assert [foreign.seq for foreign in found] == list(range(first + 1, len(stream) + 1))
    witness = Witness(keys=[OURS.key])
    for stored in stream:
        witness.hold(stored)
    assert set(found) <= set(witness.foreign)
