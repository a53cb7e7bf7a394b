"""The publisher as a process: killed again and again, it loses nothing and doubles nothing."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.log.direct_reader import read_direct
from service.revocations.entries import FamilyEnded, decode
from service.revocations.stream import STREAM, read_info
from tests.system.service import Service, running

KILLS, FAMILIES = 4, 12
PATIENCE_SECONDS = 120


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Service]:
    """A service whose publisher may be killed."""
    with running(tmp_path / "data") as service:
        yield service


async def test_it_is_killed_while_families_end(alone: Service) -> None:
    """Each family's end is in the feed once, in the log's order."""
    ended: list[str] = []
    async with alone.client() as web:
        for _ in range(KILLS):
            for number in range(FAMILIES):
                tokens = await web.issue()
                await web.succeed("revoke", {"token": tokens["refresh_token"]})
                ended.append(tokens["refresh_token"][6:28])
                if number == FAMILIES // 2:
                    alone.kill_child("heirloom.publisher")
            await _until_back(alone)
    found: list[FamilyEnded] = []
    connection = await alone.own()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found) < len(ended):
            await asyncio.sleep(0.1)
            found = []
            last = (await read_info(connection)).state.last_seq
            async for batch in read_direct(connection, stream=STREAM, until=last):
                entries = [decode(stored.body) for stored in batch.messages]
                found += [entry for entry in entries if isinstance(entry, FamilyEnded)]
    await connection.close()
    assert [entry.family_id for entry in found] == ended
    assert sorted({entry.seq for entry in found}) == [entry.seq for entry in found]


async def _until_back(service: Service) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not service.pids("heirloom.publisher"):
            await asyncio.sleep(0.05)
