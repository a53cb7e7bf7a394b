"""An inclusion proof as a file: it proves to somebody without the log that one message is in it.

The file is JSON, with hashes and the body in base64. `hashes` is the audit path of RFC 6962 §2.1.1, and `checkpoint`
the signed note of the tree to which it leads. The leaf is the hash of the body, so only the body binds `body_sha256`
(hexadecimal) to the tree. A proof may omit the body; then whoever checks the proof must have it.
"""

import hashlib
from collections.abc import Sequence

import msgspec

from events.strict_json import refuse_a_key_twice
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.merkle_tree import PathReader, includes, inclusion_path, leaf_hash
from notary.signed_note import Key


class Proof(msgspec.Struct, frozen=True):
    """The fields of the file. `leaf_index` is `seq` - 1; the tree is that of the `checkpoint`."""

    seq: int
    leaf_index: int
    tree_size: int
    body_sha256: str
    leaf_hash: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str
    v: int = 1
    body: bytes | None = None


class Unproven(Exception):
    """The proof does not hold; the text says why."""


def read_proof(content: bytes) -> Proof:
    """Parse a proof's file. Raises `Unproven`."""
    try:
        proof = msgspec.json.decode(content, type=Proof)
        refuse_a_key_twice(content)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise Unproven(str(error)) from error
    return proof


class Prover:
    """Makes a proof from the bodies of the log in order, from the first to the last that the checkpoint covers."""

    def __init__(self, seq: int, checkpoint: Checkpoint) -> None:
        if not 0 < seq <= checkpoint.size:
            raise Unproven(f"the newest checkpoint covers the log up to {checkpoint.size}, not sequence {seq}")
        self._index, self._checkpoint = seq - 1, checkpoint
        self._path = PathReader(inclusion_path(self._index, checkpoint.size))
        self._read = 0
        self._body = b""

    def read(self, body: bytes) -> None:
        """Read the next message's body."""
        if self._read == self._index:
            self._body = body
        self._path.add(leaf_hash(body))
        self._read += 1

    def proof(self) -> Proof:
        """Make the proof. Raises `Unproven` if the log is not the one that was signed."""
        proof = Proof(
            seq=self._index + 1,
            leaf_index=self._index,
            tree_size=self._checkpoint.size,
            body_sha256=hashlib.sha256(self._body).hexdigest(),
            leaf_hash=leaf_hash(self._body),
            hashes=tuple(self._path.hashes()),
            checkpoint=self._checkpoint.signed,
            body=self._body,
        )
        _require_valid(proof, self._checkpoint)
        return proof


def check(proof: Proof, keys: Sequence[Key] | None, body: bytes | None = None) -> Checkpoint:
    """Check a proof, and return its checkpoint, which must be signed by one of `keys` unless that is None.

    `body` is the message's body if the proof omits it; otherwise both must be equal. Raises `Unproven`, and
    `MalformedNote` for a malformed checkpoint.
    """
    checkpoint = read_checkpoint(proof.checkpoint.encode())
    shown = [each for each in (proof.body, body) if each is not None]
    if not shown:
        raise Unproven("it does not hold the message that it is about: name a file that does with --body")
    for each in shown:
        if (leaf_hash(each), hashlib.sha256(each).hexdigest()) != (proof.leaf_hash, proof.body_sha256):
            raise Unproven("it is about another body")
    _require_valid(proof, checkpoint)
    if keys is not None and not checkpoint.is_signed_by(keys):
        raise Unproven("its checkpoint is signed by none of the known keys")
    return checkpoint


def _require_valid(proof: Proof, checkpoint: Checkpoint) -> None:
    """Raise `Unproven` unless the proof leads from its leaf to the checkpoint's root."""
    if (proof.v, proof.leaf_index, proof.tree_size) != (1, proof.seq - 1, checkpoint.size):
        raise Unproven("its sequence, leaf index and tree size do not belong together")
    if not includes(checkpoint.root, checkpoint.size, proof.leaf_index, proof.leaf_hash, proof.hashes):
        raise Unproven("its hashes do not lead to the signed root")
