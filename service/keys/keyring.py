"""The keyring: the service's own secrets, in a file of mode 0600 or a mounted secret, never in the log (ADR 0002).

All other keys are derived from them (HKDF, RFC 5869) under a label for each purpose, kind and tenant: the MAC keys of
tokens, and the tenants' signing keys. So replicas that share the file share every key, and a new tenant needs no new
file. Each secret has an id (1 to 255), which tokens name; new tokens are made with the newest one.
"""

import base64
import secrets
from functools import lru_cache
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from events.files import create_private, exposed, replace

SECRET_BYTES = 32


class KeyringError(Exception):
    """The keyring cannot be used; the message says why and what to do."""


class _Entry(msgspec.Struct):
    id: int
    secret: str


class _File(msgspec.Struct):
    version: int
    secrets: list[_Entry]


class Keyring:
    """Secrets by id. The representation shows only the ids, so that no secret is ever printed."""

    def __init__(self, secrets_by_id: dict[int, bytes], path: Path | None = None) -> None:
        self._secrets = secrets_by_id
        self._path = path
        self.derive = lru_cache(maxsize=4096)(self._derive)

    def __repr__(self) -> str:
        return f"Keyring(ids={sorted(self._secrets)})"

    @property
    def first(self) -> int:
        """The oldest secret's id."""
        return min(self._secrets)

    @property
    def current(self) -> int:
        """The newest secret's id."""
        return max(self._secrets)

    def reload(self) -> None:
        """Read the secrets that were added to the file since it was loaded. Raises `KeyringError`."""
        if self._path is not None:
            self._secrets |= load(self._path)._secrets  # noqa: SLF001  # another keyring

    def __contains__(self, key: int) -> bool:
        return key in self._secrets

    def _derive(self, key: int, label: str, size: int = 32) -> bytes:
        """Derive `size` bytes from secret `key` for the purpose `label`. Raises `KeyError` for an unknown id."""
        kdf = HKDF(algorithm=hashes.SHA256(), length=size, salt=None, info=b"heirloom/v1/" + label.encode())
        return kdf.derive(self._secrets[key])


def load(path: Path) -> Keyring:
    """Read a keyring file. Raises `KeyringError`."""
    try:
        reason = exposed(path, "the keyring")
        content = path.read_bytes()
    except OSError as error:
        raise KeyringError(f"cannot read the keyring {path}: {error.strerror}") from error
    if reason is not None:
        raise KeyringError(reason)
    try:
        file = msgspec.json.decode(content, type=_File)
        known = {entry.id: base64.b64decode(entry.secret, validate=True) for entry in file.secrets}
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise KeyringError(f"the keyring {path} is corrupt; restore it from your backup") from error
    if file.version != 1 or not known or any(len(secret) != SECRET_BYTES for secret in known.values()):
        raise KeyringError(f"the keyring {path} is corrupt or of another version; restore it from your backup")
    if len(known) != len(file.secrets) or not all(1 <= key <= 255 for key in known):
        raise KeyringError(f"the keyring {path} has an id twice, or one outside 1 to 255")
    return Keyring(known, path)


def create(path: Path) -> Keyring:
    """Write a keyring with one fresh secret, unless the file exists, and load it. Raises `KeyringError`."""
    entry = _Entry(1, base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())
    create_private(path, msgspec.json.format(msgspec.json.encode(_File(1, [entry]))))
    return load(path)


def add(path: Path) -> int:
    """Add a fresh secret to the keyring, and return its id. Raises `KeyringError`."""
    newest = load(path).current + 1
    if newest > 255:
        raise KeyringError(f"the keyring {path} is full: it has had 255 secrets")
    file = msgspec.json.decode(path.read_bytes(), type=_File)
    entry = _Entry(newest, base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())
    content = msgspec.json.format(msgspec.json.encode(_File(1, [*file.secrets, entry])))
    replace(path, content)  # a reader sees the old keyring or the new one, whole
    return newest
