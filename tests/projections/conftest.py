"""What the tests of the audit queries share."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from events.log.stored_commit import Stored
from projections.decoded_commit import microseconds
from projections.queries import server as audit_queries
from projections.read_model import ReadModel
from tests.projections.logs import START, swapped_log
from tests.projections.queries.asked import LOG, Asked


@pytest.fixture(scope="session")
def read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the eventful log; nobody changes it."""
    return _made(tmp_path_factory.mktemp("eventful") / "model", LOG)


@pytest.fixture(scope="session")
def swapped_read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the log of tokens that were exchanged; nobody changes it."""
    return _made(tmp_path_factory.mktemp("swapped") / "model", swapped_log())


@pytest.fixture
async def ask(read_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    """An audit of the eventful log, a minute after it."""
    monkeypatch.setattr(audit_queries, "_now", lambda: microseconds(START + timedelta(minutes=1)))
    asked = _copy(read_model, tmp_path / "model")
    yield asked
    await asked.audit.close()
    asked.model.close()


@pytest.fixture
async def ask_swapped(
    swapped_read_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Asked]:
    """An audit of the log of tokens that were exchanged, a minute after it."""
    monkeypatch.setattr(audit_queries, "_now", lambda: microseconds(START + timedelta(minutes=1)))
    asked = _copy(swapped_read_model, tmp_path / "swapped")
    yield asked
    await asked.audit.close()
    asked.model.close()


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
