"""A backup: everything that cannot be made again, in one directory, with a manifest to hold it against.

The streams come from the running broker as they are at one moment. The order of taking makes them agree: what vouches
for the log (checkpoints, the notary's state) is never newer than the log, and what the log needs to be understood (the
keyring) is never older.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from events.bus import Connection
from events.subjects import STREAM
from heirloom import __version__, credentials
from heirloom.snapshot import SnapshotFailed, State, state_of, take
from notary import key as notary_files
from service import clock
from service.client_assertion import BUCKET

MANIFEST = "manifest.json"
VERSION = 1
KEYRING = "keyring.json"
BEFORE_THE_LOG = (notary_files.KEY, notary_files.PUBLIC, notary_files.STATE)
"""The key first: a key that is copied has a state."""
AFTER_THE_LOG = (credentials.FILE, KEYRING)
STREAMS = ("CHECKPOINTS", f"KV_{BUCKET}", STREAM)
"""Not the replicas' leases: they end with the replicas."""
PIECE_BYTES = 1 << 20


class Unusable(Exception):
    """The backup cannot be made, or cannot be restored; the message names what is wrong."""


class Part(msgspec.Struct, frozen=True):
    """A file of the backup: its name, its bytes, their SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


class StreamPart(msgspec.Struct, frozen=True):
    """A stream: its configuration, what it held, and the file it lies in."""

    config: dict[str, Any]
    state: State
    part: Part


class Manifest(msgspec.Struct, frozen=True):
    """What is in the backup, made at `made_at` by this version of Heirloom from that version of the broker."""

    version: int
    made_at: datetime
    heirloom: str
    broker: str
    streams: tuple[StreamPart, ...]
    files: tuple[Part, ...]

    @property
    def log(self) -> State:
        """What the log held."""
        return next(stream.state for stream in self.streams if stream.config["name"] == STREAM)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every file besides the manifest."""
        return (*(stream.part for stream in self.streams), *self.files)

    @property
    def has_keys(self) -> bool:
        """Whether the keyring is in it."""
        return any(part.name == KEYRING for part in self.files)


async def back_up(
    connection: Connection, data: Path, into: Path, advance: Callable[[int], None], *, keys: bool = True
) -> Manifest:
    """Write a backup to `into`, which must not exist: there is all of it afterwards, or nothing.

    `data` holds the keys; without `keys` the backup holds the streams alone. `advance` hears bytes. Raises `Unusable`
    and `SnapshotFailed`.
    """
    _check_place(data, into, keys)
    draft = into.with_name(f".{into.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(mode=0o700, parents=True)
        made_at = clock.now()
        files = _copies(data, BEFORE_THE_LOG, draft) if keys else []
        streams = [await _take(connection, name, draft, advance) for name in await _present(connection)]
        files += _copies(data, AFTER_THE_LOG, draft) if keys else []
        manifest = Manifest(VERSION, made_at, __version__, _version(connection), tuple(streams), tuple(files))
        with _private(draft / MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)))
        draft.rename(into)
    except OSError as error:
        raise Unusable(f"the backup cannot be written to {into}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _check_place(data: Path, into: Path, keys: bool) -> None:
    if keys and not (data / KEYRING).exists():
        raise Unusable(f"there is no keyring in {data}: name its directory with --data, or leave it out with --no-keys")
    if into.exists():
        raise Unusable(f"{into} exists already; name another directory")


def read_manifest(backup: Path) -> Manifest:
    """Raises `Unusable`."""
    path = backup / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        held = manifest.log
    except OSError as error:
        raise Unusable(f"{backup} is no backup: {MANIFEST} cannot be read ({error.strerror})") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, StopIteration) as error:
        raise Unusable(f"{path} is damaged") from error
    if manifest.version != VERSION or held.last_seq < 0:
        raise Unusable(f"{path} is of version {manifest.version}; this Heirloom knows version {VERSION}")
    if any(Path(part.name).name != part.name for part in manifest.parts):
        raise Unusable(f"{path} is damaged: it names a file outside of the backup")
    return manifest


def check(backup: Path, manifest: Manifest, advance: Callable[[int], None]) -> None:
    """Every file is there and as it was written. `advance` hears bytes. Raises `Unusable` naming all that are not."""
    faults = [fault for part in manifest.parts if (fault := _fault(backup / part.name, part, advance))]
    if faults:
        raise Unusable(f"the backup {backup} is damaged: {'; '.join(faults)}. Nothing was restored")


def _fault(path: Path, part: Part, advance: Callable[[int], None]) -> str | None:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
                size += len(piece)
                advance(len(piece))
    except OSError as error:
        return f"{part.name} cannot be read ({error.strerror})"
    if size != part.size:
        return f"{part.name} has {size:,} bytes instead of {part.size:,}"
    return None if digest.hexdigest() == part.sha256 else f"{part.name} has been altered"


async def _present(connection: Connection) -> list[str]:
    found = [name for name in STREAMS if await state_of(connection, name) is not None]
    if STREAM not in found:
        raise SnapshotFailed(f"the broker has no stream {STREAM}: there is no log to back up")
    return found


async def _take(connection: Connection, stream: str, into: Path, advance: Callable[[int], None]) -> StreamPart:
    path = into / f"{stream}.snapshot"
    with _private(path) as file:
        config, state = await take(connection, stream, file, advance)
    return StreamPart(config, state, _part(path))


def _version(connection: Connection) -> str:
    broker = connection.connected_server_version
    return f"{broker.major}.{broker.minor}.{broker.patch}"


def _copies(data: Path, names: Iterable[str], into: Path) -> list[Part]:
    there = [name for name in names if (data / name).exists()]
    for name in there:
        with _private(into / name) as file:
            file.write((data / name).read_bytes())
    return [_part(into / name) for name in there]


def _part(path: Path) -> Part:
    with path.open("rb") as file:
        return Part(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


@contextmanager
def _private(path: Path) -> Iterator[BinaryIO]:
    """A new file that only its owner can read, on the disk at the end."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
