"""Small disks, full disks, and damaged files."""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from events.log.books import number_of

BITS = 8
CHUNK = 1 << 20


class NotAllowed(Exception):
    """Only root may mount a disk, and in a container not even root."""


@contextlib.contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A new disk of that size at `directory`. Raises `NotAllowed`."""
    directory.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "heirloom-test", directory], check=True
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(disk: Path, leaving: int = 0) -> Path:
    """Leave that many bytes free; returns the file with the rest, which may be deleted again."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(disk).free - leaving) > 0:
            file.write(b"\0" * min(free, CHUNK))
    return filler


def log_files(node: Path) -> list[Path]:
    """The non-empty files of a node's log, the oldest first."""
    files = node.glob("jetstream/**/streams/TOKENS*/msgs/*.blk")
    return sorted((file for file in files if file.stat().st_size), key=_age)


def _age(file: Path) -> tuple[int, int]:
    """Book and number: `…/streams/TOKENS_2/msgs/7.blk`."""
    return number_of(file.parent.parent.name) or 0, int(file.stem)


def damaged(file: Path, how: str, chance: random.Random) -> None:
    """Truncate the file, or flip a bit in it."""
    where = chance.randrange(file.stat().st_size)
    if how == "truncated":
        os.truncate(file, where)
        return
    with file.open("r+b") as opened:
        opened.seek(where)
        (byte,) = opened.read(1)
        opened.seek(where)
        opened.write(bytes([byte ^ (1 << chance.randrange(BITS))]))
