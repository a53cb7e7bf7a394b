"""Measures the bytes of log on disk per refresh.

It divides the file sizes of whole blocks by the number of commits in them. A block's first sequence is read from its
first record. There are two loads, few families that refresh again and again and many families in turn, because a
commit's size depends on its family's history.
"""

import asyncio
from collections import deque
from pathlib import Path

from bench.machine import Figure
from bench.service.load import FULL, busy
from bench.service.refresh import families
from bench.service.service import Service
from events.aggregates.aggregate_names import STREAM

COMMITS = 30_000
LOOK_SECONDS = 0.02


class Disk(Figure, tag="disk"):
    """The `size` in bytes of `blocks` whole blocks with `commits` commits, by `families` families in turn."""

    families: int
    blocks: int
    commits: int
    size: int

    @property
    def per_commit(self) -> float:
        """Bytes on disk per refresh."""
        return self.size / self.commits


async def measure(service: Service, count: int) -> Disk:
    """Refresh `count` families in turn until whole blocks contain at least `COMMITS` of these commits."""
    directory = next((service.data / "jetstream").rglob(f"streams/{STREAM}/msgs"))
    async with families(service, count) as opened:
        idle = deque(opened)

        async def refresh_next() -> None:
            family = idle.popleft()
            await family.refresh()
            idle.append(family)

        begun = _newest(directory)
        firsts: dict[int, int] = {}
        async with busy([refresh_next] * FULL) as record:
            while not firsts or max(firsts.values()) - min(firsts.values()) < COMMITS:
                await asyncio.sleep(LOOK_SECONDS)
                if record.errors:
                    raise RuntimeError(f"a refresh failed: {dict(record.errors)}")
                newest = _newest(directory)
                if newest > begun and newest not in firsts and (first := _first_sequence(directory, newest)):
                    firsts[newest] = first
    first, last = min(firsts), max(firsts)
    blocks = [directory / f"{number}.blk" for number in range(first, last)]
    return Disk(count, len(blocks), firsts[last] - firsts[first], sum(block.stat().st_size for block in blocks))


def _newest(directory: Path) -> int:
    return max(int(block.stem) for block in directory.glob("*.blk"))


def _first_sequence(directory: Path, block: int) -> int:
    """Read a record's sequence, bytes 4 to 11 in little-endian order; 0 while the block is empty."""
    with (directory / f"{block}.blk").open("rb") as file:
        return int.from_bytes(file.read(12)[4:], "little")
