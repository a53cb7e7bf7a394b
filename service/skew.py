"""How far this machine's clock is from the broker's, the one clock that all replicas share (ADR 0031).

Tokens end by the clock of whoever looks at them. So a replica whose clock is further from the broker's than is
tolerated answers nothing until it is right again. Between two measurements the broker's time is carried on by the clock
that nobody sets: a jump of this machine's clock is noticed by the very next request.
"""

import logging
import time
from datetime import datetime, timedelta

from events.bus import Connection
from events.log import Unavailable
from events.stream import JetStreamMissing, broker_time
from service import clock
from service.errors import OAuthError

log = logging.getLogger("heirloom.skew")

TOLERATED_SECONDS = 300
UNKNOWN = "the broker's time cannot be read now"


class Skew:
    """Of this replica. Nothing is right before the first measurement.

    `tolerated` is the most by which a replica may differ from the broker, so two replicas differ by at most twice that.
    `wrong` counts the measurements that found this one too far off.
    """

    def __init__(self, tolerated_seconds: int = TOLERATED_SECONDS) -> None:
        self.tolerated = timedelta(seconds=tolerated_seconds)
        self.wrong = 0
        self._tolerated_seconds = float(tolerated_seconds)
        self._ahead_of_steady: float | None = None
        """The broker's time less that of the clock nobody sets, in seconds."""
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
        self._ahead_of_steady = told.timestamp() - (asked_at + self._uncertain)
        is_right = self.is_right()
        self.wrong += not is_right
        if is_right != self._was_right:
            self._was_right = is_right
            self._tell(is_right)

    def ahead(self) -> float:
        """Seconds by which this machine's clock is ahead of the broker's; 0 before the first measurement."""
        if self._ahead_of_steady is None:
            return 0.0
        return clock.now().timestamp() - time.monotonic() - self._ahead_of_steady

    def is_right(self) -> bool:
        """Whether this replica may answer: its clock is certainly near enough to the broker's."""
        return self._ahead_of_steady is not None and abs(self.ahead()) + self._uncertain <= self._tolerated_seconds

    def require(self) -> None:
        """Raises `temporarily_unavailable` where the clock is not right."""
        if not self.is_right():
            raise OAuthError("temporarily_unavailable", "this replica's clock is not right now; try again")

    def obstacle(self) -> str | None:
        """What keeps this replica from being ready, for a person."""
        if self._ahead_of_steady is None:
            return UNKNOWN
        return None if self.is_right() else f"its clock is {self._apart()}, more than {self._tolerated_seconds:.0f} s"

    def _apart(self) -> str:
        ahead = self.ahead()
        return f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} the broker's"

    def _tell(self, is_right: bool) -> None:
        if is_right:
            log.warning("the clock is right again: it is %s", self._apart())
        else:
            log.error(
                "the clock is %s, more than the %.0f s of --max-clock-skew: nothing is answered until it is right",
                self._apart(),
                self._tolerated_seconds,
            )
