"""A store of files: for all processes of one user on one machine.

The store is a directory, and each revision a file named by its number. A revision is written whole under another name,
synced, and *linked* under its number: unlike a rename, a link fails where another process was first. So the files alone
are a compare-and-swap, and a process that was stopped or killed at any moment harms nobody.
"""

import asyncio
import fcntl
import os
import secrets
import time
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from heirloom_client.errors import StoreError
from heirloom_client.fork import renew
from heirloom_client.record import Record
from heirloom_client.stores.store import Stored, decode, encode
from heirloom_client.stores.turn import turn

LOCK = "lock"
DRAFT = "draft-"
ABANDONED_SECONDS = 60.0
"""A draft so old is left over from a process that was killed."""


class FileStore:
    """Kept in the directory `path`, which is made when it is first needed (0700; its files 0600)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser()
        self._held: list[int] = []
        renew(self)

    def after_fork(self) -> None:
        """The turn is the parent's; it stays so when we close what we have of it."""
        while self._held:
            os.close(self._held.pop())

    async def read(self) -> Stored | None:
        """As `Store`."""
        return await asyncio.to_thread(self._read)

    async def swap(self, record: Record, revision: int) -> bool:
        """As `Store`."""
        return await asyncio.to_thread(self._swap, record, revision)

    def turn(self) -> AbstractAsyncContextManager[None]:
        """As `Store`; the system itself ends the turn of a process that dies."""
        return turn(self._take, self._give_back)

    def _read(self) -> Stored | None:
        try:
            while True:
                revision = self._newest()
                if not revision:
                    return None
                try:
                    return Stored(decode(self._content(revision), str(self._path / str(revision))), revision)
                except FileNotFoundError:
                    continue  # replaced by a newer one since
        except OSError as error:
            raise self._fault("read", error) from None

    def _swap(self, record: Record, revision: int) -> bool:
        draft = self._path / f"{DRAFT}{secrets.token_hex(8)}"
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._newest() != revision:
                return False
            _write(draft, encode(record))
            with suppress(
                FileExistsError, FileNotFoundError
            ):  # another was first; or the draft was taken for abandoned
                os.link(draft, self._path / str(revision + 1))
                return self._settle(revision + 1)
            return False
        except OSError as error:
            raise self._fault("written", error) from None
        finally:
            with suppress(OSError):
                draft.unlink()

    def _settle(self, revision: int) -> bool:
        """Whether the revision that was just linked is the newest. Its older ones are removed."""
        if self._newest() != revision:  # we were stopped for long, and the number had become free
            (self._path / str(revision)).unlink(missing_ok=True)
            return False
        _sync_directory(self._path)
        for name in [entry.name for entry in self._path.iterdir()]:
            if (name.isdecimal() and int(name) < revision) or self._is_abandoned(name):
                (self._path / name).unlink(missing_ok=True)
        return True

    def _is_abandoned(self, name: str) -> bool:
        if not name.startswith(DRAFT):
            return False
        with suppress(FileNotFoundError):
            return (self._path / name).stat().st_mtime < time.time() - ABANDONED_SECONDS
        return False

    def _newest(self) -> int:
        """The number of the newest revision; 0 for none. Raises `StoreError` where others could write here."""
        try:
            status = self._path.stat()
            names = [entry.name for entry in self._path.iterdir()]
        except FileNotFoundError:
            return 0
        _require_own(status, self._path)
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _content(self, revision: int) -> bytes:
        path = self._path / str(revision)
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            _require_own(os.fstat(file.fileno()), path)
            return file.read()

    def _take(self) -> bool:
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return True  # whatever is wrong here, reading and writing say it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._held.append(file)
        return True

    def _give_back(self) -> None:
        while self._held:
            file = self._held.pop()
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # a forked process may have it open too
            os.close(file)

    def _fault(self, what: str, error: OSError) -> StoreError:
        return StoreError(
            f"the token store {self._path} cannot be {what}: {error.strerror}. "
            "Nothing is lost: put that right and try again"
        )

    def __repr__(self) -> str:
        return f"FileStore({str(self._path)!r})"


def _require_own(status: os.stat_result, path: Path) -> None:
    if status.st_uid != os.geteuid():
        raise StoreError(f"{path} belongs to another user: use a store of your own, or run as that user")
    if status.st_mode & 0o077:
        raise StoreError(f"{path} is open to other users, who may have read the tokens: chmod go= it, or log in again")


def _write(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
