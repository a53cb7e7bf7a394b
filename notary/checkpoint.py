"""The content of a message on `tokens.checkpoint`: a signed note whose text is a C2SP tlog-checkpoint.

    <origin>
    <tree size>
    <root hash, base64>

    — <origin> <signature>

The origin is the key's name. The message's body is the note itself, so other implementations can read it from the
stream, and an auditor can keep it.
"""

import base64
import re
from collections.abc import Sequence
from typing import NamedTuple

from notary.merkle_tree import Tree
from notary.signed_note import Key, MalformedNote, Note, Signer, decode_base64, parse

MAX_BYTES = 16 * 1024
"""The largest checkpoint in bytes, with signatures of others under it; ours has less than 300."""


class Checkpoint(NamedTuple):
    """A statement that the tree of the log up to sequence `size` has this `root`; `signed` is the whole note."""

    origin: str
    size: int
    root: bytes
    signed: str

    def is_signed_by(self, keys: Sequence[Key]) -> bool:
        """Whether one of the keys signed it under the checkpoint's own origin."""
        note = parse(self.signed)
        return any(key.name == self.origin and key.has_signed(note) for key in keys)


def sign(signer: Signer, tree: Tree) -> Checkpoint:
    """Sign the checkpoint of a tree. The same tree always gives the same checkpoint."""
    root = tree.root()
    text = f"{signer.key.name}\n{tree.size}\n{base64.b64encode(root).decode()}\n"
    return Checkpoint(signer.key.name, tree.size, root, signer.sign(text))


def read_checkpoint(body: bytes) -> Checkpoint:
    """Parse a checkpoint without checking its signatures. Raises `MalformedNote`.

    Extension lines are accepted and ignored.
    """
    if len(body) > MAX_BYTES:
        raise MalformedNote(f"longer than {MAX_BYTES} bytes")
    try:
        signed = body.decode()
    except UnicodeDecodeError as error:
        raise MalformedNote("not UTF-8") from error
    origin, size, root = _lines(parse(signed))
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size):
        raise MalformedNote("the second line is no tree size")
    hash = decode_base64(root)
    if len(hash) != 32:
        raise MalformedNote("the third line is no SHA-256 hash")
    return Checkpoint(origin, int(size), hash, signed)


def _lines(note: Note) -> tuple[str, str, str]:
    lines = note.text.removesuffix("\n").split("\n")
    if len(lines) < 3 or not all(lines):
        raise MalformedNote("a checkpoint has three lines: origin, size and root")
    return lines[0], lines[1], lines[2]
