"""One token presented many times at once, on two replicas, has at most one successor (CONTRACT §3.4)."""

import asyncio
from typing import Any

import pytest

from tests.system.service import Caller, Service

FAMILIES = 200
PRESENTATIONS = 8


async def _race(caller: Caller, key: str | None) -> tuple[set[str], list[dict[str, Any]], dict[str, Any]]:
    first = await caller.issue()
    answers = await asyncio.gather(*(caller.refresh(first["refresh_token"], key=key) for _ in range(PRESENTATIONS)))
    return {answer["refresh_token"] for answer in answers if "error" not in answer}, answers, first


@pytest.mark.parametrize("key", [None, "the-same"])
async def test_eight_presentations_of_one_token(service: Service, key: str | None) -> None:
    """Without a key the family ends; with the same key it continues with one successor."""
    async with service.client() as caller:
        races = []
        for _ in range(0, FAMILIES, 10):
            races += await asyncio.gather(*(_race(caller, key) for _ in range(10)))
        for successors, answers, first in races:
            assert len(successors) <= 1, "two successors of one token"
            refused = {answer["error"] for answer in answers if "error" in answer}
            if key is None:
                assert "invalid_grant" in refused <= {"invalid_grant", "temporarily_unavailable"}
                assert not any([await caller.active(token) for token in (*successors, first["access_token"])])
            else:
                assert refused == set() and len(successors) == 1
                assert len({answer["access_token"].split(".")[1] for answer in answers}) == 1
                assert await caller.active(successors.pop())


async def test_a_refresh_started_after_the_revocation_never_succeeds(service: Service) -> None:
    """A revocation races a chain of refreshes; once acknowledged, no token of the family is accepted or active."""
    async with service.client() as caller, service.client() as revoker:

        async def family() -> None:
            newest = await caller.issue()
            acknowledged = asyncio.Event()
            refused = False

            async def chain() -> None:
                nonlocal newest, refused
                while not refused:
                    began_after = acknowledged.is_set()
                    answer = await caller.refresh(newest["refresh_token"])
                    assert not (began_after and "error" not in answer), "a success that started after the revocation"
                    refused = "error" in answer
                    newest = newest if refused else answer

            async def revoke() -> None:
                await asyncio.sleep(0)  # let the chain begin
                assert await revoker.ask("revoke", {"token": newest["refresh_token"]}) == {}
                acknowledged.set()
                assert not await revoker.active(newest["access_token"])

            await asyncio.gather(chain(), revoke())
            assert not await caller.active(newest["refresh_token"])

        for _ in range(10):
            await asyncio.gather(*(family() for _ in range(10)))
