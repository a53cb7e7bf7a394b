"""The manifest of a backup, and reading a backup that a stranger may have made.

Only the streams and files that this module knows are read, each under its own name; any other file in the directory is
ignored. Sizes are compared before contents, and every file is checked against its digest in the manifest.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from events.aggregates.aggregate_names import CHECKPOINTS, STREAM
from events.files import open_plain, read_plain
from events.log.books import number_of, stream_of
from heirloom.backup.stream_snapshot import CHUNK_BYTES, StreamState
from heirloom.data_directory import CREDENTIALS, KEYRING, NOTARY_KEY, NOTARY_PUBLIC_KEY, NOTARY_STATE
from service.clients.assertion import BUCKET

MANIFEST = "manifest.json"
VERSION = 1
BEFORE_THE_LOG = (NOTARY_KEY, NOTARY_PUBLIC_KEY, NOTARY_STATE)
"""The key first: then a copied key has a state."""
AFTER_THE_LOG = (CREDENTIALS, KEYRING)
FILES = frozenset((*BEFORE_THE_LOG, *AFTER_THE_LOG))
BESIDE_THE_LOG = (CHECKPOINTS, f"KV_{BUCKET}")
"""The streams besides the books, without the replicas' leases, which end with the replicas."""
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 16 << 20
"""Bytes of a file other than a stream: a keyring has 255 secrets at most."""
MAX_COPIES = 5


class UnusableBackup(Exception):
    """The backup cannot be made, or cannot be restored; the message says why."""


class Part(msgspec.Struct, frozen=True):
    """A file of the backup: its name, its size in bytes, and its SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


class StreamPart(msgspec.Struct, frozen=True):
    """A stream: its configuration and its state at the time, and the file that contains it."""

    config: dict[str, Any]
    state: StreamState
    part: Part

    @property
    def name(self) -> str:
        """The stream's name."""
        return str(self.config.get("name"))

    @property
    def copies(self) -> int:
        """The number of its copies."""
        return int(self.config.get("num_replicas", 1))


class Manifest(msgspec.Struct, frozen=True):
    """The content of a backup, made at `made_at` by this version of Heirloom from that version of the broker."""

    version: int
    made_at: datetime
    heirloom: str
    broker: str
    streams: tuple[StreamPart, ...]
    files: tuple[Part, ...]

    @property
    def log(self) -> StreamState:
        """The state of the log, all its books together."""
        states = [book.state for book in self.books]
        size = sum(state.messages for state in states), sum(state.bytes for state in states)
        return StreamState(*size, states[0].first_seq, states[-1].last_seq)

    @property
    def books(self) -> list[StreamPart]:
        """The books of the log, in order."""
        numbered = {number: stream for stream in self.streams if (number := number_of(stream.name)) is not None}
        return [numbered[number] for number in sorted(numbered)]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every file besides the manifest."""
        return (*(stream.part for stream in self.streams), *self.files)

    @property
    def has_keys(self) -> bool:
        """Whether the backup contains the keyring."""
        return self.file(KEYRING) is not None

    def file(self, name: str) -> Part | None:
        """The file of that name, if the backup contains it."""
        return next((part for part in self.files if part.name == name), None)


def read_manifest(backup: Path) -> Manifest:
    """The manifest, if it names only what a backup may contain. Raises `UnusableBackup`."""
    path = backup / MANIFEST
    try:
        manifest = msgspec.json.decode(read_plain(path, MAX_MANIFEST_BYTES), type=Manifest)
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
    if unknown := [name for name in names if name not in BESIDE_THE_LOG and number_of(name) is None]:
        return f"it names a stream that is none of ours, {unknown[0][:64]!r}"
    if STREAM not in names:
        return f"it lacks the stream {STREAM}"
    books = manifest.books
    if lacking := [name for number in range(1, len(books)) if (name := stream_of(number + 1)) not in names]:
        return f"it lacks the stream {lacking[0]}"
    if any(later.state.last_seq < book.state.last_seq for book, later in pairwise(books)):
        return "its books overlap"
    if any(stream.part.name != f"{stream.name}.snapshot" for stream in manifest.streams):
        return "it names another file for a stream"
    if unknown := [part.name for part in manifest.files if part.name not in FILES]:
        return f"it names a file that is none of ours, {unknown[0][:64]!r}"
    files = [part.name for part in manifest.parts]
    if len(files) != len(set(files)):
        return "it names a file twice"
    if any(part.size < 0 for part in manifest.parts) or any(part.size > MAX_FILE_BYTES for part in manifest.files):
        return "it gives a file a size that it cannot have"
    if any(min(msgspec.structs.astuple(stream.state)) < 0 for stream in manifest.streams):
        return "it gives a stream less than nothing"
    copies = [stream.config.get("num_replicas", 1) for stream in manifest.streams]
    if any(not isinstance(count, int) or not 1 <= count <= MAX_COPIES for count in copies):
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
    """A small file of the backup, checked against the manifest. Raises `UnusableBackup`."""
    return b"".join(pieces(backup, part))


def pieces(backup: Path, part: Part) -> Iterator[bytes]:
    """A file of the backup, piece by piece. Raises `UnusableBackup`, at the latest after the last piece."""
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
