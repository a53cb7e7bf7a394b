"""An audit to ask, over the eventful log."""

from pathlib import Path
from typing import Any

import msgspec

from events.fairness.request_gate import Asker
from projections.progress import Progress
from projections.queries.server import Audit
from projections.read_model import ReadModel
from tests.projections.logs import eventful_log

LOG = eventful_log()


class Asked:
    """An audit over a read model, new or as it stands there, and the model itself to go on with."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            ReadModel(path).close()  # with its indexes, as it is asked
        self.model = ReadModel(path)
        self.progress = Progress()
        self.progress.advance(self.model.applied)
        self.audit = Audit(self.progress, self._log_end)

    async def _log_end(self) -> int:
        return len(LOG) + 5

    def apply(self, log: list[Any]) -> None:
        """What the follower does."""
        self.model.apply(log)
        self.progress.advance(self.model.applied)

    async def __call__(self, query: str, tenant: str = "acme", **parameters: Any) -> dict[str, Any]:
        """The answer."""
        return await self.raw(query, msgspec.json.encode(parameters), tenant)

    async def raw(self, query: str, body: bytes, tenant: str = "acme") -> dict[str, Any]:
        """The answer to any bytes; its headers must agree with it."""
        reply, headers = await self.audit.answer(f"audit.{tenant}.{query}", body, Asker(tenant, is_own=False))
        answer: dict[str, Any] = msgspec.json.decode(reply)
        assert headers.get("Nats-Service-Error") == answer.get("error")
        return answer

    async def pages(self, query: str, limit: int, **parameters: Any) -> list[dict[str, Any]]:
        """All items, page by page."""
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await self(query, limit=limit, cursor=cursor, **parameters)
            items += page["items"]
            cursor = page["cursor"]
            if cursor is None:
                return items
