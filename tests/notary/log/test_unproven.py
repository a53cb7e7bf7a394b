"""Unproven evidence is never accepted, whoever made it and whatever was left out."""

import asyncio
import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from heirloom.cli.main import main
from notary.checkpoint import read_checkpoint, sign
from notary.inclusion_proof import Proof, Unproven, check
from notary.merkle_tree import Tree, leaf_hash
from notary.signed_note import Key, MalformedNote, Signer, parse, parse_key
from tests.broker import Broker
from tests.notary.commands.test_proofs import families, write

BODY = b'{"v":1}'
SIGNER = Signer.fresh("heirloom/1")
OTHER = Signer.fresh("heirloom/2")
LEAVES = [leaf_hash(BODY), leaf_hash(b"another")]
CHECKPOINT = sign(SIGNER, Tree().add(*LEAVES))
GOOD = Proof(
    seq=1,
    leaf_index=0,
    tree_size=2,
    body_sha256=hashlib.sha256(BODY).hexdigest(),
    leaf_hash=LEAVES[0],
    hashes=(LEAVES[1],),
    checkpoint=CHECKPOINT.signed,
    body=BODY,
)


def heirloom(*arguments: str | Path) -> Result:
    """Run `heirloom audit` in this process."""
    return CliRunner().invoke(main, ["audit", *(str(argument) for argument in arguments)])


def garbage(signed: str) -> str:
    """The same note with a made-up signature."""
    text, _, line = signed.rpartition(" ")
    made_up = SIGNER.key.hash + bytes(64)
    return f"{text} {base64.b64encode(made_up).decode()}\n" if line else signed


def foreign(signer: Signer) -> str:
    """A checkpoint of another origin, signed by this key under its own name."""
    text = parse(CHECKPOINT.signed).text.replace(SIGNER.key.name, OTHER.key.name)
    return signer.sign(text)


@pytest.fixture
def file(tmp_path: Path) -> Callable[[Proof], Path]:
    """A function that writes a proof and returns its path."""

    def written(proof: Proof) -> Path:
        (tmp_path / "proof").write_bytes(msgspec.json.encode(proof))
        return tmp_path / "proof"

    return written


def test_a_proof_without_a_known_key_is_not_accepted(file: Callable[[Proof], Path], tmp_path: Path) -> None:
    """Without a key a made-up signature and a good one look the same: the exit code is 1 for both."""
    made_up = msgspec.structs.replace(GOOD, checkpoint=garbage(CHECKPOINT.signed))
    for proof in (made_up, GOOD):
        refused = heirloom("check-proof", "--data", tmp_path, file(proof))
        assert refused.exit_code == 1
        assert "no notary's key is known" in refused.output
        trusting = heirloom("check-proof", "--data", tmp_path, "--unsigned", file(proof))
        assert (trusting.exit_code, "NOT PROVEN" in trusting.output) == (0, True)
    known = ("check-proof", "--data", tmp_path, "--key", str(SIGNER.key))
    assert heirloom(*known, file(GOOD)).exit_code == 0
    assert heirloom(*known, file(made_up)).exit_code == 1
    assert heirloom("check-proof", "--key", str(OTHER.key), file(GOOD)).exit_code == 1


ALTERED: dict[str, dict[str, Any]] = {
    "another digest of the body": {"body_sha256": hashlib.sha256(b"other").hexdigest()},
    "another body": {"body": b"other"},
    "no body": {"body": None},
    "another leaf": {"leaf_hash": leaf_hash(b"other")},
    "another sequence": {"seq": 2, "leaf_index": 1},
    "a negative sequence": {"seq": 0, "leaf_index": -1},
    "a sequence without end": {"seq": 1 << 62, "leaf_index": (1 << 62) - 1},
    "another size": {"tree_size": 3},
    "another version": {"v": 2},
    "no path": {"hashes": ()},
    "a path too long": {"hashes": (LEAVES[1], LEAVES[1])},
    "a foreign origin under our key": {"checkpoint": foreign(SIGNER)},
    "a signature twice": {"checkpoint": CHECKPOINT.signed + CHECKPOINT.signed.split("\n\n")[1]},
    "no signature": {"checkpoint": CHECKPOINT.signed.split("\n\n")[0] + "\n\n"},
}


@pytest.mark.parametrize("what", ALTERED)
def test_an_altered_proof_is_not_accepted(what: str, file: Callable[[Proof], Path]) -> None:
    """Every member is checked against the signed root, also without --body (RFC 6962 §2.1.1)."""
    assert check(GOOD, [SIGNER.key]).size == 2
    altered = msgspec.structs.replace(GOOD, **ALTERED[what])
    with pytest.raises((Unproven, MalformedNote)):
        check(altered, [SIGNER.key])
    assert heirloom("check-proof", "--key", str(SIGNER.key), file(altered)).exit_code == 1


@pytest.mark.parametrize("more", [b'"seq":99,', b'"s\\u0065q":1,', b'"further":{"a":1,"a":2},'])
def test_a_proof_with_a_duplicate_key_is_not_accepted(more: bytes, tmp_path: Path) -> None:
    """Parsers differ on which of the two counts, so each reader could see another message proven."""
    (tmp_path / "proof").write_bytes(b"{" + more + msgspec.json.encode(GOOD)[1:])
    refused = heirloom("check-proof", "--key", str(SIGNER.key), tmp_path / "proof")
    assert (refused.exit_code, "a JSON key twice" in refused.output) == (1, True), refused.output


def test_a_proof_without_its_body_needs_the_body(file: Callable[[Proof], Path], tmp_path: Path) -> None:
    """The digest alone is not bound to the leaf."""
    bare = file(msgspec.structs.replace(GOOD, body=None))
    (tmp_path / "body").write_bytes(BODY)
    key = ("--key", str(SIGNER.key))
    assert "--body" in heirloom("check-proof", *key, bare).output
    assert heirloom("check-proof", *key, "--body", tmp_path / "body", bare).exit_code == 0
    (tmp_path / "body").write_bytes(b"other")
    assert heirloom("check-proof", *key, "--body", tmp_path / "body", bare).exit_code == 1
    assert heirloom("check-proof", *key, "--body", tmp_path / "body", file(GOOD)).exit_code == 1


def test_one_key_signs_once() -> None:
    """A note with two signatures of one key is malformed, even if both are right."""
    line = CHECKPOINT.signed.split("\n\n")[1]
    for doubled in (CHECKPOINT.signed + line, CHECKPOINT.signed + garbage(CHECKPOINT.signed).split("\n\n")[1]):
        with pytest.raises(MalformedNote, match="twice"):
            parse(doubled)
    cosigned = CHECKPOINT.signed + OTHER.sign(parse(CHECKPOINT.signed).text).split("\n\n")[1]
    assert read_checkpoint(cosigned.encode()).is_signed_by([SIGNER.key])


def test_a_key_signs_for_its_own_origin_only() -> None:
    """A known key's signature says nothing about another origin's log."""
    theirs = read_checkpoint(foreign(SIGNER).encode())
    assert not theirs.is_signed_by([SIGNER.key, OTHER.key])
    renamed = Key(OTHER.key.name, SIGNER.key.public)  # a key is its name together with its bytes
    assert not read_checkpoint(foreign(SIGNER).encode()).is_signed_by([renamed])


@pytest.mark.parametrize("text", ["a\x1b[31m+00000000+AAAA", "a\n+0+A", "\udcff+00000000+AQ=="])
def test_a_key_with_control_characters_is_malformed(text: str) -> None:
    """It could not be printed or written safely."""
    with pytest.raises(MalformedNote):
        parse_key(text)


def test_only_a_checkpoint_signed_by_a_known_key_is_evidence(nats_server: Broker, tmp_path: Path) -> None:
    """A kept checkpoint without a known key may be anybody's: exit code 1, unless --unsigned is given."""
    made = families("f1", "f2")
    asyncio.run(write(nats_server.url, tmp_path, made))
    nats, kept = ("--nats", nats_server.url), tmp_path / "kept"
    signed = heirloom("checkpoint", *nats).output
    for text in (signed, garbage(signed)):
        kept.write_text(text)
        refused = heirloom("verify", *nats, "--checkpoint", kept)
        assert (refused.exit_code, "no notary's key is known" in refused.output) == (1, True)
    trusting = heirloom("verify", *nats, "--checkpoint", kept, "--unsigned")
    assert (trusting.exit_code, "NOT PROVEN: who signed" in trusting.output) == (0, True)
    unkeyed = heirloom("verify", *nats)
    assert "NOT PROVEN: who signed" in unkeyed.output
    assert '"signatures_checked":false' in heirloom("verify", *nats, "--json").output
