"""Each example runs as it stands, and the pages show what there is."""

import asyncio
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import heirloom_client
from tests.client.test_package import CLIENT
from tests.system.service import Service

EXAMPLES = sorted((CLIENT / "examples").glob("*.py"))
PAGES = [CLIENT / "README.md", CLIENT.parent / "docs" / "connect.md"]


async def _run(name: str, *arguments: str) -> str:
    program = str(CLIENT / "examples" / name)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, *arguments),
        env={"PYTHONPATH": str(CLIENT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    return output.decode()


async def test_the_examples_run(service: Service, tmp_path: Path) -> None:
    """A microservice logs in, goes on after a restart, and shares its tokens with workers."""
    url, place = await service.url(), str(tmp_path / "alice")
    assert await _run("microservice.py", url, place) == "logging in: store_error\n" + "the resource says 200\n" * 3
    assert await _run("microservice.py", url, place) == "the resource says 200\n" * 3
    assert await _run("worker.py", url, place) == "Bearer token for read offline_access\n" * 8
    assert {example.name for example in EXAMPLES} == {"microservice.py", "worker.py"}


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
