"""Read models and audits for the tests of projections."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from events.log.stored_message import StoredMessage
from projections.decoded_commit import microseconds
from projections.read_model import ReadModel
from tests.projections.logs import START, swapped_log
from tests.projections.queries.local_audit import LOG, LocalAudit, OpenAudit


@pytest.fixture(scope="session")
def read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read model of the eventful log; no test changes it."""
    return _made(tmp_path_factory.mktemp("eventful") / "model", LOG)


@pytest.fixture(scope="session")
def swapped_read_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read model of the log with exchanged tokens; no test changes it."""
    return _made(tmp_path_factory.mktemp("swapped") / "model", swapped_log())


@pytest.fixture
async def ask(read_model: Path, tmp_path: Path) -> AsyncIterator[LocalAudit]:
    """An audit of the eventful log, a minute after it began."""
    local = _copy(read_model, tmp_path / "model")
    yield local
    await local.close()


@pytest.fixture
async def ask_swapped(swapped_read_model: Path, tmp_path: Path) -> AsyncIterator[LocalAudit]:
    """An audit of the log with exchanged tokens, a minute after it began."""
    local = _copy(swapped_read_model, tmp_path / "swapped")
    yield local
    await local.close()


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[OpenAudit]:
    """A function that opens an audit of a log, an hour after it began."""
    local = LocalAudit(tmp_path / "opened")
    local.now = microseconds(START + timedelta(hours=1))

    async def over(log: Sequence[StoredMessage]) -> LocalAudit:
        local.apply(log)
        local.audit.open(tmp_path / "opened")
        return local

    yield over
    await local.close()


def _made(path: Path, log: Sequence[StoredMessage]) -> Path:
    ReadModel(path).close()  # creates the indexes, as queries expect
    model = ReadModel(path)
    model.apply(log)
    model.close()
    return path


def _copy(made: Path, path: Path) -> LocalAudit:
    path.write_bytes(made.read_bytes())
    local = LocalAudit(path)
    local.audit.open(path)
    return local
