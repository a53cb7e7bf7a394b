"""What the tests of the console share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.console.site import Site, make, site


@pytest.fixture(scope="session")
def read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the eventful log; nobody changes it."""
    return make(tmp_path_factory.mktemp("console") / "read-model.db")


@pytest.fixture
async def console(read_model: Path) -> AsyncIterator[Site]:
    """Somebody who has logged in."""
    async with site(read_model) as browser:
        yield browser
