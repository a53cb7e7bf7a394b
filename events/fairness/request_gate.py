"""Admits rare requests (administration, audit) by their subject, before anything else of them is read.

Each tenant has a rate, and a bound on its requests under way and waiting. The service's own requests are counted apart,
and handlers learn which they are: so no flood of an auditor's keeps a cut-off from finding the families to end.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from events.aggregates.aggregate_names import is_legible
from events.fairness.token_buckets import Buckets

MAX_REQUESTS, MAX_REQUESTS_OF_TENANT = 2_048, 512
"""Requests under way and waiting: in all, and about one tenant. The service's own have the same bounds apart."""
OWN_INBOX = "_INBOX.role.inquiry."
"""The inbox for the service's own requests. On our own broker, nobody else's request with such a reply subject is
answered (`events.bus.own_inbox`)."""


class GateKey(NamedTuple):
    """The tenant that a request is about, and whether the service itself sent it."""

    tenant: str
    is_own: bool

    @classmethod
    def of(cls, subject: str, reply: str) -> "GateKey":
        """Read it from the request's subject, `<what>.<tenant>.…`, and its reply subject."""
        tenant = subject.split(".")[1] if is_legible(subject) else ""
        return cls(tenant, reply.startswith(OWN_INBOX))


class Gate:
    """Admits `rate` requests a second for each key."""

    def __init__(self, rate: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._now = now
        self._buckets = Buckets()
        self._under_way: Counter[GateKey] = Counter()
        self._in_all: Counter[bool] = Counter()
        self.foreign_replies = 0
        """Requests that were dropped because their reply would have gone to others (`events.bus.own_inbox`)."""

    def try_admit(self, key: GateKey) -> bool:
        """Admit one more request: it counts as under way until `ended`. False if it is too many."""
        if self._in_all[key.is_own] >= MAX_REQUESTS or self._under_way[key] >= MAX_REQUESTS_OF_TENANT:
            return False
        if not self._buckets.of(key).try_take(self._rate, self._now()):
            return False
        self._in_all[key.is_own] += 1
        self._under_way[key] += 1
        return True

    def ended(self, key: GateKey) -> None:
        """Count an admitted request as answered."""
        self._in_all[key.is_own] -= 1
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]
