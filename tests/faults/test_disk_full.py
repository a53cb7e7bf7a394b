"""A full disk: stored data stays readable, new commits are refused, and recovery needs no operator."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from tests.faults.harness.disks import NotAllowed, fill, small_disk
from tests.system.service import Caller, running

MEGABYTES = 64
PATIENCE_SECONDS = 40
TOLD_SECONDS = 4
"""Twice the promised time."""


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data directory on a small disk."""
    try:
        with small_disk(tmp_path / "data", MEGABYTES) as disk:
            yield disk
    except NotAllowed as why:
        pytest.skip(str(why))


async def test_a_full_disk_refuses_keeps_and_recovers(data: Path) -> None:
    """Full: refused in time, introspection works. Room again: everything works without a restart."""
    with running(data) as service:
        async with service.client() as web:
            token = (await web.issue())["refresh_token"]
            filler = fill(service.data)
            await _until(web, "temporarily_unavailable")
            async with asyncio.timeout(TOLD_SECONDS):
                assert await _issue(web) == "temporarily_unavailable"
            assert await web.active(token)
            filler.unlink()
            await _until(web, "ok")
            filler = fill(service.data)
            service.kill_child("nats-server")  # its successor starts on a full disk
            await _until(web, "temporarily_unavailable")
            filler.unlink()
            await _until(web, "ok")
            assert "error" not in await web.refresh(token)


async def _until(caller: Caller, wanted: str) -> None:
    got = ""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (got := await _issue(caller)) != wanted:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{wanted!r} did not come; at last there was {got!r}") from None


async def _issue(caller: Caller) -> str:
    try:
        await caller.come_back()
        answer = await caller.ask("issue", {"sub": "u", "scope": "read offline_access"}, seconds=2)
    except NatsError as error:  # the broker is being restarted
        return repr(error)
    return str(answer.get("error", "ok"))
