"""The broker's clock, which all replicas share, and how far this machine's clock is from it (ADR 0029).

Every time that is written or compared is the broker's. It is read every second, and continued by the steady clock,
which nobody can set. If the machine's own clock is too far off, the replica refuses all requests until it is right
again, since offline verification on that machine uses it. The next request after a jump already notices it.
"""

import logging
import time
from datetime import datetime, timedelta
from typing import NamedTuple

from events.bus.connection import Connection
from events.log.jetstream_api import JetStreamMissing, Unavailable
from events.log.stream import broker_time
from service import clock
from service.errors import OAuthError

log = logging.getLogger("heirloom.skew")

TOLERATED_SECONDS, MAX_TOLERATED_SECONDS = 300, 86_400
"""The default of `--max-clock-skew`, and its largest value."""
SETTLED_SECONDS = 60
"""After a jump, the broker's clock must be steady for so long before it is followed."""
UNKNOWN = "the broker's time cannot be read now"


class _Course(NamedTuple):
    """The broker's clock minus the steady clock, in seconds, and since when (steady clock) that is the difference."""

    ahead_of_steady: float
    since: float


class Skew:
    """Measures the difference between this replica's clock and the broker's. No clock is right before that.

    `tolerated` is the largest difference allowed, so two replicas differ by at most twice that. `wrong` counts the
    measurements that found the machine's clock too far off, or a jump of the broker's.
    """

    def __init__(self, tolerated_seconds: int = TOLERATED_SECONDS) -> None:
        self.tolerated = timedelta(seconds=tolerated_seconds)
        self.wrong = 0
        self._tolerated_seconds = float(tolerated_seconds)
        self._course: _Course | None = None
        self._jumped_to: _Course | None = None
        """The broker's clock after a jump, until it is followed; else None."""
        self._uncertain = 0.0
        self._was_right = True

    async def measure(self, connection: Connection) -> None:
        """Ask the log's leader for its time. Raises `Unavailable`."""
        asked_at = time.monotonic()
        try:
            broker_now = await broker_time(connection)
        except JetStreamMissing as error:
            raise Unavailable(UNKNOWN) from error
        self.measured(asked_at, time.monotonic(), broker_now)

    def measured(self, asked_at: float, answered_at: float, broker_now: datetime) -> None:
        """Take in a measurement: the broker's clock showed `broker_now` between the two times of the steady clock."""
        self._uncertain = (answered_at - asked_at) / 2
        shown = broker_now.timestamp() - asked_at
        if self._course is None:
            self._take(_Course(shown - self._uncertain, asked_at))
        else:
            # of all differences that the reply allows, the nearest to the known one: a slow reply changes nothing
            near = self._nearest(self._course, shown)
            self._jumped_to = self._elsewhere(self._course, near, shown, asked_at)
            if self._jumped_to is None:
                self._take(self._course._replace(ahead_of_steady=near))
            elif asked_at - self._jumped_to.since >= SETTLED_SECONDS:
                self._take(self._jumped_to)
        is_right = self.is_right()
        self.wrong += not is_right
        if is_right != self._was_right:
            self._was_right = is_right
            self._log_change(is_right)

    def ahead(self) -> float:
        """By how many seconds this machine's clock is ahead of the broker's; 0 before the first measurement."""
        if self._course is None:
            return 0.0
        return clock.machine().timestamp() - time.monotonic() - self._course.ahead_of_steady

    def is_right(self) -> bool:
        """Whether this replica may answer: its clock is certainly near the broker's, which has not jumped."""
        if self._course is None or self._jumped_to is not None:
            return False
        return abs(self.ahead()) + self._uncertain <= self._tolerated_seconds

    def require(self) -> None:
        """Raises `temporarily_unavailable` if the clock is not right."""
        if not self.is_right():
            raise OAuthError("temporarily_unavailable", "this replica's clock is not right now; try again")

    def obstacle(self) -> str | None:
        """Why this replica is not ready, in words for a person; None if its clock is right."""
        if self._course is None:
            return UNKNOWN
        if self.is_right():
            return None
        if self._jumped_to is not None:
            jump = self._jumped_to.ahead_of_steady - self._course.ahead_of_steady
            return f"the broker's clock jumped by {jump:.1f} s; it must be back, or stay so for {SETTLED_SECONDS} s"
        return f"its clock is {self._apart()}, more than {self._tolerated_seconds:.0f} s"

    def _take(self, course: _Course) -> None:
        self._course, self._jumped_to = course, None
        clock.use_broker_time(course.ahead_of_steady)

    def _nearest(self, course: _Course, shown: float) -> float:
        return min(max(course.ahead_of_steady, shown - 2 * self._uncertain), shown)

    def _elsewhere(self, course: _Course, near: float, shown: float, asked_at: float) -> _Course | None:
        """The broker's clock if it is not near its course, and since when it is there; else None."""
        if abs(near - course.ahead_of_steady) <= self._tolerated_seconds:
            return None
        if self._jumped_to is not None:
            again = self._nearest(self._jumped_to, shown)
            if abs(again - self._jumped_to.ahead_of_steady) <= self._tolerated_seconds:
                return self._jumped_to._replace(ahead_of_steady=again)
        return _Course(near, asked_at)

    def _apart(self) -> str:
        ahead = self.ahead()
        return f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the broker's"

    def _log_change(self, is_right: bool) -> None:
        if is_right:
            log.warning("the clock is right again: it is %s", self._apart())
        else:
            log.error("%s (--max-clock-skew): nothing is answered until it is right", self.obstacle())
