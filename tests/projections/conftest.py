"""What the tests of the audit queries share."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from projections import audit as audit_queries
from projections.commit import microseconds
from tests.projections.asked import LOG, Asked
from tests.projections.logs import START, swapped_log


@pytest.fixture
async def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    """An audit of the eventful log, a minute after it."""
    monkeypatch.setattr(audit_queries, "_now", lambda: microseconds(START + timedelta(minutes=1)))
    asked = Asked(tmp_path / "model")
    asked.apply(LOG)
    asked.audit.open(tmp_path / "model")
    yield asked
    await asked.audit.close()
    asked.model.close()


@pytest.fixture
async def ask_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    """An audit of the log of tokens that were exchanged, a minute after it."""
    monkeypatch.setattr(audit_queries, "_now", lambda: microseconds(START + timedelta(minutes=1)))
    asked = Asked(tmp_path / "swapped")
    asked.apply(swapped_log())
    asked.audit.open(tmp_path / "swapped")
    yield asked
    await asked.audit.close()
    asked.model.close()
