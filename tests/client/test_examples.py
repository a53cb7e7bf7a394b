"""Each example runs as it stands, and the pages show what there is."""

import asyncio
import importlib
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

import heirloom_client
from heirloom.broker import credentials
from tests.client.test_package import CLIENT
from tests.system.service import Service

EXAMPLES = sorted((CLIENT / "examples").glob("*.py"))
PAGES = [CLIENT / "README.md", CLIENT.parent / "docs" / "connect.md"]


async def _started(name: str, *arguments: str, stdin: int = subprocess.DEVNULL) -> asyncio.subprocess.Process:
    program = str(CLIENT / "examples" / name)
    return await asyncio.create_subprocess_exec(
        *(sys.executable, program, *arguments),
        env={"PYTHONPATH": str(CLIENT)},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def _run(name: str, *arguments: str) -> str:
    process = await _started(name, *arguments)
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    return output.decode()


async def test_the_examples_run(service: Service, tmp_path: Path) -> None:
    """A microservice logs in, goes on after a restart, and shares its tokens with workers."""
    url, place = await service.url(), str(tmp_path / "alice")
    assert await _run("microservice.py", url, place) == "logging in: store_error\n" + "the resource says 200\n" * 3
    assert await _run("microservice.py", url, place) == "the resource says 200\n" * 3
    assert await _run("worker.py", url, place) == "Bearer token for read offline_access\n" * 8


async def test_a_resource_server_hears_of_revocations(service: Service) -> None:
    """It answers 200 to a token that is good, and 401 once the token was revoked, by itself."""
    url = credentials.load(service.data).url("resource", service.host)
    process = await _started("resource.py", url, "https://acme.example", stdin=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None

    async def said(token: str) -> str:
        process.stdin.write(f"{token}\n".encode())  # type: ignore[union-attr]  # it is there
        return await _line(process)

    async with service.client() as web:
        assert await _line(process) == "fresh"
        tokens = await web.issue()
        assert await _until(said, tokens["access_token"]) == "200 hello alice"
        assert await said("hat_opaque") == "401 it is opaque: only the service can say what it is (introspect)"
        await web.succeed("revoke", {"token": tokens["refresh_token"]})
        while (answer := await _until(said, tokens["access_token"])) == "200 hello alice":
            await asyncio.sleep(0.01)
        assert answer == "401 it was revoked"
    process.stdin.close()
    assert (await process.communicate())[1] == b"" and process.returncode == 0


def test_every_example_is_run() -> None:
    """By one of the tests above."""
    assert {example.name for example in EXAMPLES} == {"microservice.py", "resource.py", "worker.py"}


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        return (await process.stdout.readline()).decode().strip()


async def _until(said: Callable[[str], Awaitable[str]], token: str) -> str:
    """The answer, once the process has fresh news: on a busy machine it may be late."""
    while (answer := await said(token)).startswith("503"):
        await asyncio.sleep(0.05)
    return answer


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_show_what_there_is(page: Path) -> None:
    """Every name that is imported, every method that is called, and every example."""
    text = page.read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    for block in blocks:
        for module, names in re.findall(r"from (heirloom_client[.\w]*) import ([\w, ]+)", block):
            known = vars(importlib.import_module(module))
            assert set(re.split(r", *", names)) <= known.keys()
        for method in re.findall(r"oauth\.(\w+)\(", block):
            assert hasattr(heirloom_client.Client, method)
        for method in re.findall(r"source\.(\w+)\(", block):
            assert hasattr(heirloom_client.TokenSource, method)
    assert blocks
    for link in re.findall(r"\]\((\.\.?/[^)#]+)\)", text):
        assert (page.parent / link).exists()
