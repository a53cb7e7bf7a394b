"""What the tests of the audit queries share."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from events.log.stored_commit import Stored
from projections.decoded_commit import microseconds
from projections.read_model import ReadModel
from tests.projections.logs import START, swapped_log
from tests.projections.queries.asked import LOG, Asked, Asking


@pytest.fixture(scope="session")
def read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the eventful log; nobody changes it."""
    return _made(tmp_path_factory.mktemp("eventful") / "model", LOG)


@pytest.fixture(scope="session")
def swapped_read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the log of tokens that were exchanged; nobody changes it."""
    return _made(tmp_path_factory.mktemp("swapped") / "model", swapped_log())


@pytest.fixture
async def ask(read_model: Path, tmp_path: Path) -> AsyncIterator[Asked]:
    """An audit of the eventful log, a minute after it."""
    asked = _copy(read_model, tmp_path / "model")
    yield asked
    await asked.close()


@pytest.fixture
async def ask_swapped(swapped_read_model: Path, tmp_path: Path) -> AsyncIterator[Asked]:
    """An audit of the log of tokens that were exchanged, a minute after it."""
    asked = _copy(swapped_read_model, tmp_path / "swapped")
    yield asked
    await asked.close()


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Asking]:
    """Makes an audit of a log of the test's own, an hour after it began."""
    asked = Asked(tmp_path / "asked")
    asked.now = microseconds(START + timedelta(hours=1))

    async def over(log: Sequence[Stored]) -> Asked:
        asked.apply(log)
        asked.audit.open(tmp_path / "asked")
        return asked

    yield over
    await asked.close()


def _made(path: Path, log: Sequence[Stored]) -> Path:
    ReadModel(path).close()  # with its indexes, as it is asked
    model = ReadModel(path)
    model.apply(log)
    model.close()
    return path


def _copy(made: Path, path: Path) -> Asked:
    path.write_bytes(made.read_bytes())
    asked = Asked(path)
    asked.audit.open(path)
    return asked
