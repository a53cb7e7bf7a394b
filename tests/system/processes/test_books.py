"""Books on a whole service: nothing that callers and auditors rely on ends with a book (contract §6, ADR 43)."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError

from tests.system.service import HEIRLOOM, Caller, Service, running

TWO_REPLICAS = ("--replicas", "2")


async def heirloom(*arguments: str | Path) -> str:
    """The output of a command, which must succeed."""
    process = await asyncio.create_subprocess_exec(
        HEIRLOOM, *map(str, arguments), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, (arguments, output, errors)
    return output.decode()


async def close(service: Service) -> dict[str, Any]:
    """`heirloom admin log close`."""
    closed: dict[str, Any] = json.loads(await heirloom("admin", "log", "close", "--json", "--data", service.data))
    return closed


async def refreshed(web: Caller, tokens: dict[str, Any]) -> dict[str, Any]:
    """The family's next tokens."""
    return await web.succeed("token", {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]})


async def test_families_people_and_evidence_go_on_across_books(tmp_path: Path) -> None:
    """Refreshed, stolen, cut off, verified, restarted, backed up and restored, with two closings between."""
    data, backup = tmp_path / "data", tmp_path / "backup"
    with running(data, *TWO_REPLICAS) as service:
        async with service.client() as web, service.role("operator") as operator, service.client("api") as api:
            stolen, kept, later, idle = [await web.issue(sub) for sub in ("alice", "alice", "bob", "carol")]
            dead = await web.issue("dave")
            await operator.succeed("admin.acme.subject.block", {"sub": "dave"}, seconds=40)
            assert (await close(service))["book"] == 2
            rotated = await refreshed(web, stolen)
            assert await api.active(kept["access_token"]) and not await api.active(dead["access_token"])
            assert "error" in await web.ask("issue", {"sub": "dave", "scope": "read"})
            kept = await refreshed(web, await refreshed(web, kept))
            assert (await web.refresh(stolen["refresh_token"]))["error"] == "invalid_grant"  # a reuse across books
            assert (await web.refresh(rotated["refresh_token"]))["error"] == "invalid_grant"
            third = await close(service)
            assert third["book"] == 3
            assert (await web.refresh(rotated["refresh_token"]))["error"] == "invalid_grant"
            assert not await api.active(rotated["access_token"])
            kept = await refreshed(web, kept)
            assert await api.active(later["access_token"])
            cut_off = await operator.succeed("admin.acme.subject.revoke", {"sub": "bob"}, seconds=40)
            assert cut_off["revoked_families"] == 1 and cut_off["seq"] >= third["seq"]
            assert not await api.active(later["access_token"])
            assert (await operator.ask("admin.acme.log.close", {}))["error"] == "invalid_request"
        assert "whole: every commit follows" in await heirloom("audit", "verify", "--data", data)
        assert await heirloom("backup", "--data", data, backup)
    with running(data, *TWO_REPLICAS) as service:
        async with service.client() as web, service.client("api") as api:
            kept = await refreshed(web, kept)
            assert await api.active(idle["access_token"])
            assert (await web.refresh(later["refresh_token"]))["error"] == "invalid_grant"
        assert "whole: every commit follows" in await heirloom("audit", "verify", "--data", data)
    again = tmp_path / "again"
    await heirloom("restore", "--data", again, backup)
    with running(again) as service:
        async with service.client() as web, service.role("operator") as operator:
            assert (await web.refresh(rotated["refresh_token"]))["error"] == "invalid_grant"
            await refreshed(web, idle)
            assert (await close(service))["book"] == 4
            assert "error" in await web.ask("issue", {"sub": "dave", "scope": "read"})
            unblocked = await operator.succeed("admin.acme.subject.unblock", {"sub": "dave"}, seconds=40)
            assert unblocked["seq"] > 0
            await web.issue("dave")
        assert "whole: every commit follows" in await heirloom("audit", "verify", "--data", again)


async def test_a_book_closes_on_three_brokers(tmp_path: Path) -> None:
    """Every copy shows each step before the next one; then a broker is killed, and families go on."""
    data = tmp_path / "data"
    with running(data, "--cluster", "3") as service:
        async with service.client() as web, service.client("api") as api:
            tokens, other = await web.issue(), await web.issue("bob")
            for number in (2, 3):
                assert (await close(service))["book"] == number
                tokens = await refreshed(web, tokens)
            service.kill_child("nats-server")
            async with asyncio.timeout(60):
                while True:
                    await web.come_back()
                    await api.come_back()
                    with contextlib.suppress(NatsError):
                        await web.connection.flush(5)  # it too has found a broker that lives
                        if (await api.ask("introspect", {"token": other["access_token"]})).get("active"):
                            break
                    await asyncio.sleep(0.2)
            await refreshed(web, other)
        assert "whole: every commit follows" in await heirloom("audit", "verify", "--data", data)
