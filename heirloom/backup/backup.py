"""A backup: everything that cannot be made again, in one directory, with a manifest to check it against.

The streams come from the running broker, each as it is at one moment. The order keeps the parts consistent: checkpoints
and the notary's state are never newer than the log, and the keyring, which the log needs, is never older.
"""

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from events.aggregates.aggregate_names import STREAM
from events.bus.connection import Connection
from events.files import new_file
from events.log.books import stream_of
from heirloom import __version__
from heirloom.backup.manifest import (
    AFTER_THE_LOG,
    BEFORE_THE_LOG,
    BESIDE_THE_LOG,
    MANIFEST,
    VERSION,
    Manifest,
    Part,
    StreamPart,
    UnusableBackup,
)
from heirloom.backup.stream_snapshot import SnapshotFailed, state_of, take_snapshot
from heirloom.broker import credentials
from heirloom.data_directory import (
    CREDENTIALS,
    KEYRING,
    NOTARY_KEY,
    NOTARY_PUBLIC_KEY,
    NOTARY_STATE,
    DataDirectory,
)
from notary import key_files as notary_files
from notary.key_files import NoKey
from notary.signed_note import MalformedNote, parse_signer
from service import clock
from service.keys import keyring
from service.keys.keyring import KeyringError


async def back_up(
    connection: Connection, data: Path, into: Path, advance: Callable[[int], None], *, keys: bool = True
) -> Manifest:
    """Write a backup to `into`, which must not exist: afterwards it is complete, or absent.

    `data` contains the keys; without `keys` the backup has the streams and the notary's public key. `advance` receives
    bytes. Raises `UnusableBackup` and `SnapshotFailed`.
    """
    _check_place(data, into, keys)
    draft = into.with_name(f".{into.name}.{secrets.token_hex(4)}")
    try:
        into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        made_at = clock.now()
        # verifying the log takes the notary's public key, with or without the other keys
        files = _copies(data, BEFORE_THE_LOG if keys else (NOTARY_PUBLIC_KEY,), draft)
        streams = [await _take(connection, name, draft, advance) for name in await _present(connection)]
        streams += await _take_books(connection, draft, advance)
        files += _copies(data, AFTER_THE_LOG, draft) if keys else []
        _check_files(draft, {part.name for part in files})
        manifest = Manifest(VERSION, made_at, __version__, _version(connection), tuple(streams), tuple(files))
        with new_file(draft / MANIFEST) as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest)))
        draft.rename(into)
    except OSError as error:
        raise UnusableBackup(f"the backup cannot be written to {into}: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _check_place(data: Path, into: Path, keys: bool) -> None:
    if keys and not DataDirectory(data).keyring.exists():
        raise UnusableBackup(
            f"there is no keyring in {data}: name its directory with --data, or leave it out with --no-keys"
        )
    if into.exists():
        raise UnusableBackup(f"{into} exists already; name another directory")


def _check_files(draft: Path, names: set[str]) -> None:
    """Check that the copied files can be used after a restore. Raises `UnusableBackup`."""
    readers: dict[str, Callable[[Path], object]] = {
        KEYRING: keyring.load,
        CREDENTIALS: lambda path: credentials.load(path.parent),
        NOTARY_KEY: lambda path: parse_signer(path.read_text().strip()),
        NOTARY_STATE: notary_files.read_state,
        NOTARY_PUBLIC_KEY: notary_files.known_keys,
    }
    for name in sorted(names):
        try:
            readers[name](draft / name)
        except (KeyringError, NoKey, MalformedNote, UnicodeDecodeError) as error:
            raise UnusableBackup(
                f"there is no use in a backup of {name}, which cannot be used itself: {error}"
            ) from error


async def _present(connection: Connection) -> list[str]:
    if await state_of(connection, STREAM) is None:
        raise SnapshotFailed(f"the broker has no stream {STREAM}: there is no log to back up")
    return [name for name in BESIDE_THE_LOG if await state_of(connection, name) is not None]


async def _take_books(connection: Connection, into: Path, advance: Callable[[int], None]) -> list[StreamPart]:
    """All books of the log. One that is closed while it is taken is taken once more: it may have grown until then."""
    books: list[StreamPart] = []
    while True:
        name = stream_of(len(books) + 1)
        book = await _take(connection, name, into, advance)
        is_newest = await state_of(connection, stream_of(len(books) + 2)) is None
        if is_newest or book.config.get("sealed"):
            books.append(book)
        else:
            (into / book.part.name).unlink()
        if is_newest:
            return books


async def _take(connection: Connection, stream: str, into: Path, advance: Callable[[int], None]) -> StreamPart:
    path = into / f"{stream}.snapshot"
    with new_file(path) as file:
        config, state = await take_snapshot(connection, stream, file, advance)
    return StreamPart(config, state, _part(path))


def _version(connection: Connection) -> str:
    broker = connection.connected_server_version
    return f"{broker.major}.{broker.minor}.{broker.patch}"


def _copies(data: Path, names: Iterable[str], into: Path) -> list[Part]:
    there = [name for name in names if (data / name).exists()]
    for name in there:
        with new_file(into / name) as file:
            file.write((data / name).read_bytes())
    return [_part(into / name) for name in there]


def _part(path: Path) -> Part:
    with path.open("rb") as file:
        return Part(path.name, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
