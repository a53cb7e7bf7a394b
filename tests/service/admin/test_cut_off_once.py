"""Whether any family lives since an earlier order: read from a list whose pages may be empty."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import msgspec
import pytest

from events.fairness.request_gate import OWN_INBOX, GateKey
from projections import pagination
from service.admin.cut_off_once import _lives
from service.read_model_client import ReadModelClient
from tests.projections.logs import LogMaker
from tests.projections.queries.local_audit import LocalAudit

P = TypeVar("P", bound=msgspec.Struct)


class AnsweringReadModel(ReadModelClient):
    """A client that queries the read model directly, without a broker."""

    def __init__(self, asked: LocalAudit) -> None:
        self._asked = asked

    async def _ask(self, subject: str, parameters: dict[str, Any], kind: type[P]) -> P:
        given = {name: value for name, value in parameters.items() if value is not None}
        reply, _ = await self._asked.audit.answer(subject, msgspec.json.encode(given), GateKey.of(subject, OWN_INBOX))
        return msgspec.json.decode(reply, type=kind)


async def test_a_living_family_is_found_behind_many_ended_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list returns empty pages before the one with the family."""
    monkeypatch.setattr(pagination, "MAX_ROWS_READ", 3)
    maker = LogMaker()
    maker.open("lives")
    for number in range(10):
        maker.open(f"ended-{number}")
        maker.reuse(f"ended-{number}")
    asked = LocalAudit(tmp_path / "model")
    asked.apply(maker.log)
    asked.audit.open(tmp_path / "model")

    async def last_sequence() -> int:
        return len(maker.log)

    context = cast(
        "Any", SimpleNamespace(log=SimpleNamespace(last_sequence=last_sequence), read_model=AnsweringReadModel(asked))
    )
    assert await _lives(context, "acme", "alice", None)
    assert not await _lives(context, "acme", "bob", None)
    await asked.audit.close()
    asked.model.close()
