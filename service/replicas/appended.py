"""Replicas tell each other what they append, so that a family that moves between them need not be read again.

Clients ask whichever replica the broker chooses, so with two of them every other refresh would begin with a read of the
log. The news of a commit is published before the answer that it allows, on another connection, since what answers may
publish nothing else: with one broker it should be there before the client can ask again. It may be lost or
late all the same; then the log is read.
"""

import contextlib
import logging
from collections.abc import Callable

from nats.errors import Error as NatsError

from events.bus.connection import Connection
from service.families.cache import FamilyCache
from service.keys.seal import Seal

log = logging.getLogger("heirloom.replicas")

SUBJECT = "heirloom.appended"


class AppendedCommits:
    """To and from the other replicas, through a connection that does not receive what it publishes itself.

    What nobody of them has sealed is dropped: an old commit under a newer sequence would revive a family that ended.
    """

    def __init__(self, connection: Connection, recent: FamilyCache, is_alone: Callable[[], bool], seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._recent = recent
        self._is_alone = is_alone

    async def start(self) -> None:
        """Listen to the others."""
        await self._connection.listen(f"{SUBJECT}.*.*.*", self._heard)

    async def publish(self, tenant: str, family_id: str, seq: int, body: bytes) -> None:
        """A commit of that family was appended as `seq`."""
        if not self._is_alone():
            subject = f"{SUBJECT}.{tenant}.{family_id}.{seq}"
            with contextlib.suppress(NatsError):  # it is only news
                await self._connection.publish(subject, self._seal.close(subject, body))

    def _heard(self, subject: bytes, _reply: bytes, sealed: bytes, _headers: bytes | None) -> None:
        if (body := self._seal.open(subject, sealed)) is None:
            log.warning("dropped news of a commit that no replica has published")
            return
        _, _, tenant, family_id, seq = subject.decode().split(".")
        self._recent.put_remote((tenant, family_id), int(seq), body)
