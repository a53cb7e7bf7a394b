"""kill -9 of any process at any time: no acknowledged commit is lost, and a retry gets the same successor."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from nats.errors import Error as NatsError

from tests.system.service import PATIENCE_SECONDS, Caller, Service

DIES_BEFORE_REPLYING = """
import os
import service.endpoints.grants.refresh_token as grant
grant.token_response = lambda *_: os._exit(9)
import runpy
runpy.run_module("heirloom.replica", run_name="__main__")
"""


async def _until_refreshed(caller: Caller, token: str, key: str) -> dict[str, str]:
    """Repeat the request, as a client with a key may, until there is a reply."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(NatsError):
                await caller.come_back()
                answer = await caller.ask(
                    "token", {"grant_type": "refresh_token", "refresh_token": token}, key=key, seconds=1
                )
                if answer.get("error") != "temporarily_unavailable":
                    return answer
            await asyncio.sleep(0.05)


async def test_killed_between_append_and_reply(alone: Service) -> None:
    """A replica dies after the append and before its reply: the retry gets the successor of that commit."""
    async with alone.client() as web:
        token = (await web.issue())["refresh_token"]
        doomed = _doomed_replica(alone)
        # repeated until the queue group delivers one to the doomed replica
        with contextlib.suppress(NatsError):
            for attempt in range(200):
                probe = await web.issue()
                await web.ask(
                    "token",
                    {"grant_type": "refresh_token", "refresh_token": probe["refresh_token"]},
                    key=f"k{attempt}",
                    seconds=1,
                )
                token, key = probe["refresh_token"], f"k{attempt}"
        token, key = probe["refresh_token"], f"k{attempt}"
        assert doomed.wait(PATIENCE_SECONDS) == 9
        first = await web.refresh(token, key=key)
        assert "error" not in first
        assert (await web.refresh(token, key=key))["refresh_token"] == first["refresh_token"]
        assert "error" not in await web.refresh(first["refresh_token"])


def _doomed_replica(service: Service) -> "subprocess.Popen[str]":
    environment = os.environ | {
        "HEIRLOOM_NATS_URL": f"nats://{service.host}",
        "HEIRLOOM_KEYRING": str(service.data / "keyring.json"),
        "HEIRLOOM_DATA": str(service.data),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", DIES_BEFORE_REPLYING],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


@pytest.mark.parametrize("victim", ["nats-server", "heirloom.replica", "heirloom.projector"])
async def test_killed_under_load(alone: Service, victim: str) -> None:
    """Families refresh with keys while a process is killed; afterwards every reply still holds."""
    async with alone.client() as web, alone.role("auditor") as auditor:
        tokens = [(await web.issue())["refresh_token"] for _ in range(8)]
        given: list[list[str]] = [[token] for token in tokens]
        stop = asyncio.Event()

        async def family(chain: list[str]) -> None:
            while not stop.is_set():
                answer = await _until_refreshed(web, chain[-1], f"k{len(chain)}")
                assert "error" not in answer, answer
                chain.append(answer["refresh_token"])

        async def kill() -> None:
            for _ in range(2):
                rounds = len(given[0])
                while len(given[0]) < rounds + 20 or not alone.pids(victim):
                    await asyncio.sleep(0.01)
                alone.kill_child(victim)
                rounds = len(given[0])
                while len(given[0]) < rounds + 20:
                    await asyncio.sleep(0.01)
            stop.set()

        await asyncio.gather(kill(), *(family(chain) for chain in given))
        for chain in given:
            assert len(set(chain)) == len(chain), "a generation was issued twice"
            assert await web.active(chain[-1])
        assert await _families(auditor)
    verify = [str(Path(sys.executable).with_name("heirloom")), "audit", "verify", "--data", str(alone.data)]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr


async def _families(auditor: Caller) -> list[object]:
    """The families in the read model, once it replies and has caught up."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            with contextlib.suppress(NatsError):
                position = await auditor.ask("audit.acme.position", {}, seconds=2)
                up_to_now = {"limit": 10, "min_seq": position.get("log_seq")}
                answer = await auditor.ask("audit.acme.families", up_to_now, seconds=6)
                if "items" in answer:
                    items: list[object] = answer["items"]
                    return items
            await asyncio.sleep(0.05)


async def test_a_killed_parent_leaves_no_process(alone: Service) -> None:
    """After kill -9 of `heirloom up` its children end by themselves, and the next start finds all data."""
    async with alone.client() as web:
        token = (await web.issue())["refresh_token"]
    children = [pid for what in ("nats-server", "replica", "projector") for pid in alone.pids(what)]
    assert len(children) == 3
    alone.kill()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while any(_lives(pid) for pid in children):
            await asyncio.sleep(0.05)
    alone.start()
    async with alone.client() as web:
        assert "error" not in await web.refresh(token)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not state.strip().startswith("Z")


async def test_sigterm_loses_no_request(service: Service) -> None:
    """A replica that is stopped replies to every request it received.

    A refusal after a long wait on a busy machine counts as a reply; then the request is repeated.
    """
    served = service.served()
    async with service.client() as web:
        stop = asyncio.Event()
        answered = 0

        async def family() -> None:
            nonlocal answered
            token = (await web.issue())["refresh_token"]
            while not stop.is_set():
                answer = await web.refresh(token, key=token[-9:])  # a lost request would time out, and fail the test
                if answer.get("error") != "temporarily_unavailable":
                    assert "error" not in answer, answer
                    token = answer["refresh_token"]
                    answered += 1

        async def restart() -> None:
            for round in range(2):
                goal = answered + 200
                while answered < goal or service.served() < served + round:  # both replicas serve
                    await asyncio.sleep(0.05)
                os.kill(service.pids("heirloom.replica")[0], signal.SIGTERM)
            goal = answered + 200
            while answered < goal or service.served() < served + 2:
                await asyncio.sleep(0.05)
            stop.set()

        await asyncio.gather(restart(), *(family() for _ in range(16)))
