"""Who may ask for what is asked rarely (administration, audit), looked at before anything of a request but its subject.

A tenant has a rate, and so many of its requests are under way or wait. What the service itself asks counts apart in all
of that, and whoever answers is told who asks: no auditor's flood keeps a cut-off from finding out what to end.
"""

import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from events.aggregates.subjects import is_legible
from events.fairness.token_buckets import Buckets

MOST, MOST_OF_TENANT = 2_048, 512
"""Requests under way and waiting: in all, and about one tenant; so many of the service's own besides."""
OWN_INBOX = "_INBOX.role.inquiry."
"""Where the service awaits what it asks itself. On a broker of ours nobody else's request with such a reply subject is
answered (`events.bus.own_inbox`)."""


class Asker(NamedTuple):
    """About which tenant is asked, and whether the service itself asks."""

    tenant: str
    is_own: bool

    @classmethod
    def of(cls, subject: str, reply: str) -> "Asker":
        """By the subject of the request, `<what>.<tenant>.…`, and its reply subject."""
        tenant = subject.split(".")[1] if is_legible(subject) else ""
        return cls(tenant, reply.startswith(OWN_INBOX))


class Gate:
    """Lets in `rate` requests a second of each asker."""

    def __init__(self, rate: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._now = now
        self._buckets = Buckets()
        self._under_way: Counter[Asker] = Counter()
        self._in_all: Counter[bool] = Counter()
        self.foreign_replies = 0
        """Requests that were dropped before, as their answer would have gone to others (`events.bus.own_inbox`)."""

    def admits(self, asker: Asker) -> bool:
        """Whether one more may come in; then it is under way until it has `ended`."""
        if self._in_all[asker.is_own] >= MOST or self._under_way[asker] >= MOST_OF_TENANT:
            return False
        if not self._buckets.of(asker).takes(self._rate, self._now()):
            return False
        self._in_all[asker.is_own] += 1
        self._under_way[asker] += 1
        return True

    def ended(self, asker: Asker) -> None:
        """One that was let in is answered."""
        self._in_all[asker.is_own] -= 1
        self._under_way[asker] -= 1
        if not self._under_way[asker]:
            del self._under_way[asker]
