"""The notary's files: its private key, its public keys, and the state that it signed last."""

import os
import secrets
from pathlib import Path

import msgspec

from events.files import replace
from notary.file_names import KEY, PUBLIC_KEY
from notary.merkle_tree import Tree
from notary.signed_note import Key, MalformedNote, Signer, parse_key, parse_signer

START_AGAIN = " and start again, under a new key"
"""The end of the advice in error texts."""


class NoKey(Exception):
    """The notary's key or state cannot be used; the text says why, and what to do."""


class NotaryState(msgspec.Struct, frozen=True):
    """The tree of `origin` that was signed last: its edge, the hash of its last leaf, and the checkpoint itself.

    Size 0 means that nothing was signed yet. Hashes are in base64.
    """

    origin: str
    size: int = 0
    edge: tuple[bytes, ...] = ()
    last_leaf: bytes = b""
    signed: str = ""

    @property
    def tree(self) -> Tree:
        """The tree from which the notary goes on."""
        return Tree(self.size, self.edge)


def open_key(key: Path, state: Path) -> Signer:
    """Read the notary's key, or create it at the first start together with an empty state. Raises `NoKey`.

    The public key is appended to the file beside the key, which also lists the notary's earlier keys.
    """
    if not key.exists():
        signer = Signer.fresh(
            f"heirloom/{secrets.token_hex(8)}"
        )  # a new key has a new origin, and so signs a log of its own
        # the state first: a notary with a key but without a state would not know what it signed
        if state.exists() and read_state(state).size > 0:
            other = f"{state} is of a key that is not in {key}"
            raise NoKey(f"{other}; restore that, or put the state away as well{START_AGAIN}")
        write_state(state, NotaryState(signer.key.name))
        replace(key, (signer.export() + "\n").encode())
    try:
        if os.name == "posix" and key.stat().st_mode & 0o077:
            raise NoKey(f"the notary's key {key} is readable by others; run: chmod 600 {key}")
        signer = parse_signer(key.read_text().strip())
    except (OSError, UnicodeDecodeError, MalformedNote) as error:
        raise NoKey(f"the notary's key {key} cannot be read: {error}") from error
    _publish(signer, key.with_name(PUBLIC_KEY))
    return signer


def read_state(path: Path) -> NotaryState:
    """Read the state. Raises `NoKey` if it is missing: a notary must know what it signed before."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=NotaryState)
    except FileNotFoundError as error:
        lost = f"{path} is missing: what was signed last is not known; restore it"
        raise NoKey(f"{lost}, or put {KEY} away as well{START_AGAIN}") from error
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        unreadable = f"{path} cannot be read: {error}; restore it"
        raise NoKey(f"{unreadable}, or put it and {KEY} away{START_AGAIN}") from error


def write_state(path: Path, state: NotaryState) -> None:
    """Write the state; it is on the disk when this returns."""
    replace(path, msgspec.json.encode(state))


def known_keys(path: Path) -> list[Key]:
    """Read the public keys in a file, one on each line: the notary's, and its earlier ones. Raises `MalformedNote`."""
    return parse_keys(path.read_text())


def parse_keys(text: str) -> list[Key]:
    """Parse public keys, one on each line. Raises `MalformedNote`."""
    return [parse_key(line) for line in text.split()]


def _publish(signer: Signer, path: Path) -> None:
    known = path.read_text().split() if path.exists() else []
    if str(signer.key) not in known:
        replace(path, "".join(f"{line}\n" for line in (*known, str(signer.key))).encode(), 0o644)
