"""What a backup holds, and reading it as what it may be: files that a stranger has put together.

Only the streams and files that the code knows are taken, each under its one name; of what else lies in the directory
nothing is read. Sizes are compared before contents, and every file is read through the digest that the manifest gives.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from events.aggregates.subjects import CHECKPOINTS, STREAM
from events.files import open_plain, read_plain
from heirloom.backup.stream_snapshot import CHUNK_BYTES, StreamState
from heirloom.data_directory import CREDENTIALS, KEYRING, NOTARY_KEY, NOTARY_PUBLIC_KEY, NOTARY_STATE
from service.clients.assertion import BUCKET

MANIFEST = "manifest.json"
VERSION = 1
BEFORE_THE_LOG = (NOTARY_KEY, NOTARY_PUBLIC_KEY, NOTARY_STATE)
"""The key first: a key that is copied has a state."""
AFTER_THE_LOG = (CREDENTIALS, KEYRING)
FILES = frozenset((*BEFORE_THE_LOG, *AFTER_THE_LOG))
STREAMS = (CHECKPOINTS, f"KV_{BUCKET}", STREAM)
"""Not the replicas' leases: they end with the replicas."""
LARGEST_MANIFEST = 1 << 20
LARGEST_FILE = 16 << 20
"""Bytes of one that is no stream: a keyring has 255 secrets at most."""
MOST_COPIES = 5


class UnusableBackup(Exception):
    """The backup cannot be made, or cannot be restored; the message says what is wrong."""


class Part(msgspec.Struct, frozen=True):
    """A file of the backup: its name, its bytes, their SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


class StreamPart(msgspec.Struct, frozen=True):
    """A stream: its configuration as it was, what it held, and the file it lies in."""

    config: dict[str, Any]
    state: StreamState
    part: Part

    @property
    def name(self) -> str:
        """The stream's."""
        return str(self.config.get("name"))

    @property
    def copies(self) -> int:
        """How many there were."""
        return int(self.config.get("num_replicas", 1))


class Manifest(msgspec.Struct, frozen=True):
    """What is in the backup, made at `made_at` by this version of Heirloom from that version of the broker."""

    version: int
    made_at: datetime
    heirloom: str
    broker: str
    streams: tuple[StreamPart, ...]
    files: tuple[Part, ...]

    @property
    def log(self) -> StreamState:
        """What the log held."""
        return next(stream.state for stream in self.streams if stream.name == STREAM)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every file besides the manifest."""
        return (*(stream.part for stream in self.streams), *self.files)

    @property
    def has_keys(self) -> bool:
        """Whether the keyring is in it."""
        return self.file(KEYRING) is not None

    def file(self, name: str) -> Part | None:
        """The file of that name, if it is in the backup."""
        return next((part for part in self.files if part.name == name), None)


def read_manifest(backup: Path) -> Manifest:
    """The manifest, if it names what a backup may hold and nothing else. Raises `UnusableBackup`."""
    path = backup / MANIFEST
    try:
        manifest = msgspec.json.decode(read_plain(path, LARGEST_MANIFEST), type=Manifest)
    except OSError as error:
        raise UnusableBackup(f"{backup} is no backup: {MANIFEST} cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UnusableBackup(f"{path} is damaged") from error
    if manifest.version != VERSION:
        raise UnusableBackup(f"{path} is of version {manifest.version}; this Heirloom knows version {VERSION}")
    if fault := _fault(manifest):
        raise UnusableBackup(f"{path} is not as `heirloom backup` writes it: {fault}. Nothing was restored")
    return manifest


def _fault(manifest: Manifest) -> str | None:
    names = [stream.name for stream in manifest.streams]
    if unknown := [name for name in names if name not in STREAMS]:
        return f"it names a stream that is none of ours, {unknown[0][:64]!r}"
    if STREAM not in names:
        return f"it lacks the stream {STREAM}"
    if any(stream.part.name != f"{stream.name}.snapshot" for stream in manifest.streams):
        return "it names another file for a stream"
    if unknown := [part.name for part in manifest.files if part.name not in FILES]:
        return f"it names a file that is none of ours, {unknown[0][:64]!r}"
    files = [part.name for part in manifest.parts]
    if len(files) != len(set(files)):
        return "it names a file twice"
    if any(part.size < 0 for part in manifest.parts) or any(part.size > LARGEST_FILE for part in manifest.files):
        return "it gives a file a size that it cannot have"
    if any(min(msgspec.structs.astuple(stream.state)) < 0 for stream in manifest.streams):
        return "it gives a stream less than nothing"
    copies = [stream.config.get("num_replicas", 1) for stream in manifest.streams]
    if any(not isinstance(count, int) or not 1 <= count <= MOST_COPIES for count in copies):
        return "it gives a stream an impossible number of copies"
    return None


def check(backup: Path, manifest: Manifest, advance: Callable[[int], None]) -> None:
    """Check every file against the manifest. `advance` receives bytes. Raises `UnusableBackup` with all that differ.

    All sizes are compared before any content is read.
    """
    faults = [fault for part in manifest.parts if (fault := _wrong_size(backup, part))]
    for part in () if faults else manifest.parts:
        try:
            for piece in pieces(backup, part):
                advance(len(piece))
        except UnusableBackup as unusable:
            faults.append(str(unusable))
    if faults:
        raise UnusableBackup(f"the backup {backup} is damaged: {'; '.join(faults)}. Nothing was restored")


def read_part(backup: Path, part: Part) -> bytes:
    """A small file of the backup, as the manifest says it is. Raises `UnusableBackup`."""
    return b"".join(pieces(backup, part))


def pieces(backup: Path, part: Part) -> Iterator[bytes]:
    """A file of the backup, piece by piece. Raises `UnusableBackup`, at the latest behind its last piece."""
    digest, size = hashlib.sha256(), 0
    try:
        with open_plain(backup / part.name) as file:
            while size <= part.size and (piece := file.read(CHUNK_BYTES)):
                digest.update(piece)
                size += len(piece)
                yield piece
    except OSError as error:
        raise UnusableBackup(f"{part.name} cannot be read ({error.strerror})") from error
    if size != part.size or digest.hexdigest() != part.sha256:
        raise UnusableBackup(f"{part.name} has been altered")


def _wrong_size(backup: Path, part: Part) -> str | None:
    try:
        with open_plain(backup / part.name) as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        return f"{part.name} cannot be read ({error.strerror})"
    return None if size == part.size else f"{part.name} has {size:,} bytes instead of {part.size:,}"
