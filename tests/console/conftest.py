"""Fixtures of the console's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.console.site import Site, make, site


@pytest.fixture(scope="session")
def read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read model of the eventful log; no test changes it."""
    return make(tmp_path_factory.mktemp("console") / "read-model.db")


@pytest.fixture
async def console(read_model: Path) -> AsyncIterator[Site]:
    """A browser that has logged in."""
    async with site(read_model) as browser:
        yield browser
