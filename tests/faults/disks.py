"""Disks that are small, get full, and files on them that are damaged."""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

BITS = 8
CHUNK = 1 << 20


class NotAllowed(Exception):
    """Only root may make a disk, and in a container not even root."""


@contextlib.contextmanager
def small_disk(directory: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size at `directory`, which is made. Raises `NotAllowed`."""
    directory.mkdir(parents=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "heirloom-test", directory], check=True
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)


def fill(disk: Path, leaving: int = 0) -> Path:
    """Leave so many bytes free on it, and give the file that takes the rest: who removes that makes room again."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(disk).free - leaving) > 0:
            file.write(b"\0" * min(free, CHUNK))
    return filler


def damaged(node: Path, how: str, chance: random.Random) -> None:
    """Truncate the newest file of the node's log, or flip a bit in it."""
    files = sorted(node.glob("jetstream/**/streams/TOKENS/msgs/*.blk"), key=lambda file: int(file.stem))
    if not files or not (size := files[-1].stat().st_size):
        return
    where = chance.randrange(size)
    if how == "truncated":
        os.truncate(files[-1], where)
    else:
        with files[-1].open("r+b") as file:
            file.seek(where)
            (byte,) = file.read(1)
            file.seek(where)
            file.write(bytes([byte ^ (1 << chance.randrange(BITS))]))
