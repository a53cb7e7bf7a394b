"""An audit in this process, without a bus, for tests to query."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from events.fairness.request_gate import GateKey
from events.log.stored_message import StoredMessage
from projections.decoded_commit import microseconds
from projections.progress import Progress
from projections.queries.server import Audit
from projections.read_model import ReadModel
from tests.projections.logs import START, eventful_log

LOG = eventful_log()


class LocalAudit:
    """An audit over the read model at `path`, and the model itself to apply more; `now` is the audit's clock."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            ReadModel(path).close()  # creates the indexes, as queries expect
        self.model = ReadModel(path)
        self.progress = Progress()
        self.progress.advance(self.model.applied)
        self.now = microseconds(START + timedelta(minutes=1))
        self.audit = Audit(self.progress, self._log_end, now=lambda: self.now)

    async def _log_end(self) -> int:
        return len(LOG) + 5

    def apply(self, log: Sequence[StoredMessage]) -> None:
        """Apply commits as the follower does."""
        self.model.apply(log)
        self.progress.advance(self.model.applied)

    async def close(self) -> None:
        """Close the audit and the model."""
        await self.audit.close()
        self.model.close()

    async def __call__(self, query: str, tenant: str = "acme", **parameters: Any) -> dict[str, Any]:
        """The reply to a query."""
        return await self.raw(query, msgspec.json.encode(parameters), tenant)

    async def raw(self, query: str, body: bytes, tenant: str = "acme") -> dict[str, Any]:
        """The reply to a body of any bytes; its headers must agree with it."""
        reply, headers = await self.audit.answer(f"audit.{tenant}.{query}", body, GateKey(tenant, is_own=False))
        answer: dict[str, Any] = msgspec.json.decode(reply)
        assert headers.get("Nats-Service-Error") == answer.get("error")
        return answer

    async def pages(self, query: str, limit: int, **parameters: Any) -> list[dict[str, Any]]:
        """The items of all pages."""
        items: list[dict[str, Any]] = []
        cursor = None
        while True:
            page = await self(query, limit=limit, cursor=cursor, **parameters)
            items += page["items"]
            cursor = page["cursor"]
            if cursor is None:
                return items


OpenAudit: TypeAlias = Callable[[Sequence[StoredMessage]], Awaitable[LocalAudit]]
"""A function that opens an audit of a log."""
