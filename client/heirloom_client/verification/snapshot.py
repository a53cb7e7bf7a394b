"""What a verifier knows, in a file: after a restart it asks only for what has come since.

Whoever can write it can add keys, so it is its owner's alone.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from heirloom_client.errors import StoreError
from heirloom_client.verification.feed import Feed
from heirloom_client.verification.revoked import Revoked, SavedRevoked

VERSION = 1


class _Saved(msgspec.Struct, frozen=True):
    """`as_of` is a NumericDate by this machine's clock."""

    tenant: str
    feed: str
    n: int
    issuer: str
    as_of: float
    keys: dict[str, tuple[int, dict[str, Any]]]
    revoked: SavedRevoked
    v: int = VERSION


def encode(feed: Feed, tenant: str) -> bytes:
    """The feed as JSON."""
    return msgspec.json.encode(
        {
            "v": VERSION,
            "tenant": tenant,
            "feed": feed.name,
            "n": feed.n,
            "issuer": feed.issuer,
            "as_of": max(time.time() + feed.as_of - time.monotonic(), 0.0),
            "keys": feed.jwks,
            "revoked": feed.revoked.to_builtins(),
        }
    )


def write(path: Path, content: bytes) -> None:
    """Replace the file as a whole. Raises `StoreError`."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        raise StoreError(f"the snapshot {path} cannot be written: {error.strerror}") from None


def read(path: Path, tenant: str) -> Feed | None:
    """The feed in the file; None without a file. Raises `StoreError`, which says what to do."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise StoreError(
                    f"{path} can be written by others, who could add keys: remove it, or use another place"
                )
            content = file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the snapshot {path} cannot be read: {error.strerror}") from None
    try:
        saved = msgspec.json.decode(content, type=_Saved)
        if saved.v > VERSION:
            raise StoreError(f"{path} was written by a newer version of heirloom-client: remove it, or update this one")
        if saved.tenant != tenant:
            raise StoreError(f"{path} is the snapshot of another tenant, {saved.tenant!r}: use a file for each")
        return _restored(saved)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise StoreError(f"{path} is cut short or damaged: remove it; it is made anew") from None


def _restored(saved: _Saved) -> Feed:
    feed = Feed()
    feed.name, feed.n, feed.issuer = saved.feed, saved.n, saved.issuer
    feed.as_of = time.monotonic() - max(time.time() - saved.as_of, 0.0)
    feed.revoked = Revoked.of(saved.revoked)
    feed.use_keys(saved.keys)
    return feed
