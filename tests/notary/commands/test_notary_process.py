"""The notary process of `heirloom up`."""

import asyncio
import shutil
from pathlib import Path

import pytest

from events.aggregates.aggregate_names import CHECKPOINTS
from events.log.direct_reader import read_direct
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.key_files import known_keys
from tests.system.service import Service, running


async def first_checkpoint(service: Service) -> Checkpoint:
    """The log's first checkpoint, as soon as it is stored."""
    connection = await service.own("notary")
    try:
        async for batch in read_direct(connection, stream=CHECKPOINTS):
            for stored in batch.messages:
                return read_checkpoint(stored.body)
    finally:
        await connection.close()
    raise AssertionError


async def test_it_runs_and_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It signs the seed's commits; over another log it ends and is not restarted, and the service goes on."""
    monkeypatch.setenv("HEIRLOOM_NOTARY_SECONDS", "0.1")
    with running(tmp_path / "data") as service:
        checkpoint = await first_checkpoint(service)
        assert checkpoint.is_signed_by(known_keys(service.data / "notary.pub"))
        assert service.stop() == 0
        shutil.rmtree(service.data / "jetstream")
        service.start()
        async with asyncio.timeout(20):
            while "the notary signs no more" not in service.said() or service.pids("heirloom.notary"):
                await asyncio.sleep(0.05)
        async with service.client() as web:
            assert "access_token" in await web.ask("issue", {"sub": "alice", "scope": "read"})
