"""The data directory: one that is ours alone, with its keyring, and for one service at a time."""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from events.files import exposed
from heirloom.backup.manifest import DRAFT, KEYRING
from heirloom.broker import credentials
from heirloom.broker.cluster import node_names
from heirloom.broker.run_file import LOCK
from service.keys import keyring

MAX_PATH_BYTES = 480
"""Of the data directory: SQLite opens no file of more than 512, and gives the read model's companions longer names."""
LOGS = ("jetstream", *node_names(3))
"""Where a log lies in a data directory."""


class CannotStart(Exception):
    """One line for a person: what is in the way, and what to do."""


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """Have the data directory for oneself: no service runs on it. Raises `CannotStart`."""
    descriptor = os.open(data / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CannotStart(f"another heirloom up runs on {data}; choose another --data, or stop it") from error
    finally:
        os.close(descriptor)


def prepare(data: Path) -> None:
    """Make the data directory and its keyring, where they are not there yet. Raises `CannotStart`.

    Nothing is written into a directory before it is known to be its owner's alone.
    """
    path = data / KEYRING
    try:
        _take(data)
        if (data / DRAFT).exists():
            raise CannotStart(f"a restore into {data} was broken off: remove {data / DRAFT}, and restore again")
        if not path.exists() and any((data / log).exists() for log in LOGS):
            raise CannotStart(
                f"{data} has a log but no keyring: its tokens would all be void. Restore {path} from your backup"
            )
        keyring.create(path)
    except keyring.KeyringError as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        raise CannotStart(f"cannot use the data directory {data}: {error.strerror}") from error


def _take(data: Path) -> None:
    """Have a directory for what is ours alone: a new one, an empty one of ours, or one that holds ours already.

    Raises `CannotStart` and `OSError`.
    """
    if (length := len(os.fsencode(data))) > MAX_PATH_BYTES:
        raise CannotStart(f"the data directory's path is too long: {length} bytes of at most {MAX_PATH_BYTES}")
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = data.stat()
    is_empty = os.access(data, os.R_OK) and not any(data.iterdir())
    if is_empty and found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWOTH:
        data.chmod(0o700)
    if (reason := exposed(data, "the data directory")) is not None:
        raise CannotStart(reason)
    if not is_empty and not any((data / name).exists() for name in (KEYRING, credentials.FILE, DRAFT, *LOGS)):
        raise CannotStart(
            f"{data} is not empty, and holds no keyring: name a new directory, {data / 'heirloom'} perhaps"
        )
