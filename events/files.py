"""Reads and writes files safely: only plain files, never through a link, and whole or not at all.

Links, FIFOs and devices that somebody else may have put in the place of a file are neither followed nor opened. New
content is written to a draft beside the file, private to its owner, and moved into place once it is on the disk.
"""

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600


def exposed(path: Path, what: str) -> str | None:
    """Say why other users have access to a file or directory, and what to do; None if they have none.

    The owner must be this user, or root, who also mounts secrets for a group of this user's (Kubernetes:
    `root:fsGroup`, 0440 or 0640). Root may use everybody's files. Raises `OSError`.
    """
    found = path.stat()
    me, mode = os.geteuid(), stat.S_IMODE(found.st_mode)
    if found.st_uid not in (me, 0) and me != 0:
        return f"{what} {path} belongs to another user ({found.st_uid}); run this as that user, or chown it"
    is_directory = stat.S_ISDIR(found.st_mode)
    is_mounted = found.st_uid == 0 != me and not is_directory
    if mode & (0o037 if is_mounted else 0o077):
        access = "open to" if is_directory or mode & 0o033 else "readable by"
        another = ", or name a new directory in it" if is_directory else ""
        return f"{what} {path} is {access} others; run: chmod {'700' if is_directory else '600'} {path}{another}"
    return None


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file for reading. Raises `OSError`, also for a link and for anything but a plain file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no plain file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain(path: Path, limit: int) -> bytes:
    """Read a plain file. Raises `OSError`, also for more than `limit` bytes."""
    with open_plain(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(0, f"it has more than {limit:,} bytes")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(0, f"it has more than {limit:,} bytes")
    return content


def make_empty(path: Path) -> None:
    """Create an empty private file, to be written in place. Raises `FileExistsError`, also for a link."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE))


def open_to_append(path: Path) -> BinaryIO:
    """Open an existing plain file at its end, and make it private.

    Raises `OSError`, also for a link, for anything but a plain file, and for another user's file, whose owner could
    make it public again.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "it is no plain file")
        if found.st_uid != os.geteuid():
            raise OSError(0, "it belongs to another user")
        os.fchmod(descriptor, PRIVATE)
        return os.fdopen(descriptor, "a+b")
    except BaseException:
        os.close(descriptor)
        raise


@contextlib.contextmanager
def new_file(path: Path, *, replaces: bool = False, mode: int = PRIVATE) -> Iterator[BinaryIO]:
    """Write a file, which appears under its name when the block ends, whole and on the disk, or not at all.

    Raises `FileExistsError` unless it `replaces` an existing file. A link under that name is never followed. The umask
    narrows `mode` for users other than the owner.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            draft.replace(path)
        else:
            os.link(draft, path)  # unlike a rename, this never replaces a file that was created meanwhile
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)


def create_private(path: Path, content: bytes) -> None:
    """Write a private file as `new_file` does. An existing file is left as it is."""
    with contextlib.suppress(FileExistsError), new_file(path) as file:
        file.write(content)


def replace(path: Path, content: bytes, mode: int = PRIVATE) -> None:
    """Write a file as `new_file` does, and replace an existing one."""
    with new_file(path, replaces=True, mode=mode) as file:
        file.write(content)


def _sync(directory: Path) -> None:
    """Write a directory's entries to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
