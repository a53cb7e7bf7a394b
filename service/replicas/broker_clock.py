"""The broker's clock, which all replicas share, and how far this machine's is from it (ADR 0029).

Every time that is written or compared is the broker's, asked for every second and carried on between by the clock that
nobody sets. A machine whose own clock is further off than is tolerated answers nothing until that is right again, since
whoever verifies offline there goes by it. A jump is noticed by the very next request.
"""

import logging
import time
from datetime import datetime, timedelta
from typing import NamedTuple

from events.bus.connection import Connection
from events.log.jetstream_api import JetStreamMissing
from events.log.log import Unavailable
from events.log.stream import broker_time
from service import clock
from service.errors import OAuthError

log = logging.getLogger("heirloom.skew")

TOLERATED_SECONDS, MOST_TOLERATED_SECONDS = 300, 86_400
"""By default, and the most that can be chosen."""
SETTLED_SECONDS = 60
"""So long must the broker's clock have kept to another course before that one is followed."""
UNKNOWN = "the broker's time cannot be read now"


class _Course(NamedTuple):
    """What the broker's clock shows less the clock nobody sets, in seconds, and since when it does (steady)."""

    ahead_of_steady: float
    since: float


class Skew:
    """Of this replica. Nothing is right before the first measurement.

    `tolerated` is the most by which a replica may differ from the broker, so two replicas differ by at most twice that.
    `wrong` counts the measurements that found this one too far off, or the broker's clock elsewhere than it was.
    """

    def __init__(self, tolerated_seconds: int = TOLERATED_SECONDS) -> None:
        self.tolerated = timedelta(seconds=tolerated_seconds)
        self.wrong = 0
        self._tolerated_seconds = float(tolerated_seconds)
        self._course: _Course | None = None
        self._jumped_to: _Course | None = None
        """Where the broker's clock is now, if it left its course."""
        self._uncertain = 0.0
        self._was_right = True

    async def measure(self, connection: Connection) -> None:
        """Ask the log's leader for its time. Raises `Unavailable`."""
        asked_at = time.monotonic()
        try:
            told = await broker_time(connection)
        except JetStreamMissing as error:
            raise Unavailable(UNKNOWN) from error
        self.measured(asked_at, time.monotonic(), told)

    def measured(self, asked_at: float, answered_at: float, told: datetime) -> None:
        """The broker's clock showed `told` at some moment between the two, which are seconds of the steady clock."""
        self._uncertain = (answered_at - asked_at) / 2
        shown = told.timestamp() - asked_at
        if self._course is None:
            self._take(_Course(shown - self._uncertain, asked_at))
        else:
            # of what the answer leaves open, the nearest to what is known: a slow answer moves nothing
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
            self._tell(is_right)

    def ahead(self) -> float:
        """Seconds by which this machine's clock is ahead of the broker's; 0 before the first measurement."""
        if self._course is None:
            return 0.0
        return clock.machine().timestamp() - time.monotonic() - self._course.ahead_of_steady

    def is_right(self) -> bool:
        """Whether this replica may answer: its clock is certainly near enough to the broker's, and that one steady."""
        if self._course is None or self._jumped_to is not None:
            return False
        return abs(self.ahead()) + self._uncertain <= self._tolerated_seconds

    def require(self) -> None:
        """Raises `temporarily_unavailable` where the clock is not right."""
        if not self.is_right():
            raise OAuthError("temporarily_unavailable", "this replica's clock is not right now; try again")

    def obstacle(self) -> str | None:
        """What keeps this replica from being ready, for a person."""
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
        clock.follow(course.ahead_of_steady)

    def _nearest(self, course: _Course, shown: float) -> float:
        return min(max(course.ahead_of_steady, shown - 2 * self._uncertain), shown)

    def _elsewhere(self, course: _Course, near: float, shown: float, asked_at: float) -> _Course | None:
        """Where the broker's clock is if not near its course, and since when it has kept to that."""
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

    def _tell(self, is_right: bool) -> None:
        if is_right:
            log.warning("the clock is right again: it is %s", self._apart())
        else:
            log.error("%s (--max-clock-skew): nothing is answered until it is right", self.obstacle())
