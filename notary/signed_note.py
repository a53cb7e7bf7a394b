"""Signed notes of C2SP signed-note: a text, a blank line, and a line for each signature over the text.

    — <name> <base64(key hash, 4 bytes ‖ Ed25519 signature, 64 bytes)>

A key is written as `<name>+<key hash, hex>+<base64(0x01 ‖ public key)>`, and a private key as `PRIVATE+KEY+…` with the
seed in the public key's place, as in other implementations of the format.
"""

import base64
import hashlib
import secrets
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"
HASH_BYTES = 4
_PRIVATE = "PRIVATE+KEY+"
_DASH = "\N{EM DASH} "


class MalformedNote(Exception):
    """The text is not a signed note, or not a key."""


class Signature(NamedTuple):
    """A signature line: the name of the signer, the hash of its key, and the signature."""

    name: str
    key_hash: bytes
    value: bytes


class Note(NamedTuple):
    """A note. `text` ends with a newline; the signatures are over its UTF-8 encoding."""

    text: str
    signatures: tuple[Signature, ...]


class Key(NamedTuple):
    """A public key, which verifies notes."""

    name: str
    public: bytes

    @property
    def hash(self) -> bytes:
        """The first four bytes of SHA-256(name ‖ newline ‖ algorithm ‖ key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:HASH_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"

    def has_signed(self, note: Note) -> bool:
        """Whether the note has a valid signature by this key, and no invalid one."""
        ours = [line for line in note.signatures if line.name == self.name and line.key_hash == self.hash]
        try:
            for line in ours:
                Ed25519PublicKey.from_public_bytes(self.public).verify(line.value, note.text.encode())
        except InvalidSignature:
            return False
        return bool(ours)


class Signer:
    """A private key and its name. It must never be printed."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.key = Key(name, self._private.public_key().public_bytes_raw())

    @classmethod
    def fresh(cls, name: str) -> "Signer":
        """Make a signer with a new key."""
        return cls(name, secrets.token_bytes(32))

    def sign(self, text: str) -> str:
        """Sign a text. The same text always gives the same note."""
        signature = self._private.sign(text.encode())
        line = base64.b64encode(self.key.hash + signature).decode()
        return f"{text}\n{_DASH}{self.key.name} {line}\n"

    def export(self) -> str:
        """Encode the private key as text, which is a secret."""
        seed = base64.b64encode(ED25519 + self._private.private_bytes_raw()).decode()
        return f"{_PRIVATE}{self.key.name}+{self.key.hash.hex()}+{seed}"


def parse(signed: str) -> Note:
    """Parse a signed note strictly, without verifying it. Raises `MalformedNote`."""
    text, blank, lines = signed.rpartition("\n\n")
    if not blank or not lines.endswith("\n") or any(character < " " and character != "\n" for character in signed):
        raise MalformedNote("not a signed note")
    signatures = tuple(_signature(line) for line in lines[:-1].split("\n"))
    if len({(signature.name, signature.key_hash) for signature in signatures}) < len(signatures):
        raise MalformedNote("one key signs it twice")
    return Note(text + "\n", signatures)


def parse_key(text: str) -> Key:
    """Parse a public key. Raises `MalformedNote`."""
    name, key_hash, material = _key_parts(text)
    key = Key(name, material)
    if key.hash.hex() != key_hash:
        raise MalformedNote("the key's hash is not that of the key")
    return key


def parse_signer(text: str) -> Signer:
    """Parse a private key. Raises `MalformedNote`, whose text does not repeat it."""
    if not text.startswith(_PRIVATE):
        raise MalformedNote("not a private key")
    name, key_hash, material = _key_parts(text.removeprefix(_PRIVATE))
    signer = Signer(name, material)
    if signer.key.hash.hex() != key_hash:
        raise MalformedNote("the key's hash is not that of the key")
    return signer


def _signature(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space or not name or not _is_name(name):
        raise MalformedNote("not a signature line")
    value = decode_base64(encoded)
    if len(value) <= HASH_BYTES:
        raise MalformedNote("a signature that is too short")
    return Signature(name, value[:HASH_BYTES], value[HASH_BYTES:])


def _key_parts(text: str) -> tuple[str, str, bytes]:
    parts = text.split("+", 2)  # base64 may contain a plus, a name may not
    if len(parts) != 3 or not parts[0] or not _is_name(parts[0]) or not text.isprintable():
        raise MalformedNote("not a key: NAME+HASH+KEY is")
    material = decode_base64(parts[2])
    if len(material) != 33 or material[:1] != ED25519:
        raise MalformedNote("not an Ed25519 key")
    return parts[0], parts[1], material[1:]


def _is_name(text: str) -> bool:
    return not any(character.isspace() or character == "+" for character in text)


def decode_base64(text: str) -> bytes:
    """Decode base64 (RFC 4648 §4) in its canonical form. Raises `MalformedNote`."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise MalformedNote("not base64") from error
    if base64.b64encode(value).decode() != text:
        raise MalformedNote("not base64 in its canonical form")
    return value
