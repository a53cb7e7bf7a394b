"""Preparing a data directory: it is its owner's alone, has a keyring, and serves one service at a time."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator

from events.files import exposed
from heirloom.data_directory import DataDirectory
from service.keys import keyring

MAX_PATH_BYTES = 480
"""The longest path of a data directory: SQLite opens paths up to 512 bytes, and adds file names to it."""


class CannotStart(Exception):
    """The service cannot start: one line for a person, with the reason and what to do."""


@contextlib.contextmanager
def locked(data: DataDirectory) -> Iterator[None]:
    """Hold the data directory's lock, so that no other service runs on it. Raises `CannotStart`."""
    descriptor = os.open(data.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CannotStart(f"another heirloom up runs on {data.path}; choose another --data, or stop it") from error
    finally:
        os.close(descriptor)


def prepare(data: DataDirectory) -> None:
    """Make the data directory and its keyring, where they do not exist yet. Raises `CannotStart`.

    Nothing is written into a directory before it is known to be its owner's alone.
    """
    try:
        _take(data)
        if data.restore_draft.exists():
            raise CannotStart(
                f"a restore into {data.path} was broken off: remove {data.restore_draft}, and restore again"
            )
        if not data.keyring.exists() and any(log.exists() for log in data.logs):
            raise CannotStart(
                f"{data.path} has a log but no keyring: its tokens would all be void. Restore {data.keyring} from your"
                " backup"
            )
        keyring.create(data.keyring)
    except keyring.KeyringError as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise CannotStart(f"cannot use the data directory {data.path}: {error.strerror}") from error


def _take(data: DataDirectory) -> None:
    """Make the directory, or take one that is empty and ours, or one that was used before.

    Raises `CannotStart` and `OSError`.
    """
    path = data.path
    if (length := len(os.fsencode(path))) > MAX_PATH_BYTES:
        raise CannotStart(f"the data directory's path is too long: {length} bytes of at most {MAX_PATH_BYTES}")
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.stat()
    is_empty = os.access(path, os.R_OK) and not any(path.iterdir())
    if is_empty and found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH:
        path.chmod(0o700)
    if (reason := exposed(path, "the data directory")) is not None:
        raise CannotStart(reason)
    if not is_empty and not _was_used(data):
        raise CannotStart(
            f"{path} is not empty, and holds no keyring: name a new directory, {path / 'heirloom'} perhaps"
        )


def _was_used(data: DataDirectory) -> bool:
    """Whether the directory contains files that only Heirloom makes."""
    return any(path.exists() for path in (data.keyring, data.credentials, data.restore_draft, *data.logs))
