"""Replicas send each other the commits that they append, so that the next replica need not read the family again.

The broker chooses the replica of a request, so with two of them every other refresh would begin with a read of the log.
A commit is published before its response, on another connection, since the one that responds may publish nothing else:
with one broker, the commit should arrive before the client's next request. If it is late or lost, the log is read.
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
    """Publishes and receives commits, through a connection that does not receive its own messages.

    A message without a replica's seal is dropped: an old commit with a newer sequence would revive an ended family.
    """

    def __init__(self, connection: Connection, cache: FamilyCache, is_alone: Callable[[], bool], seal: Seal) -> None:
        self._connection = connection
        self._seal = seal
        self._cache = cache
        self._is_alone = is_alone

    async def start(self) -> None:
        """Subscribe to the other replicas' commits."""
        await self._connection.listen(f"{SUBJECT}.*.*.*", self._receive)

    async def publish(self, tenant: str, family_id: str, seq: int, body: bytes) -> None:
        """Publish a family's commit, which was appended as `seq`, if there are other replicas."""
        if not self._is_alone():
            subject = f"{SUBJECT}.{tenant}.{family_id}.{seq}"
            with contextlib.suppress(NatsError):  # the other replicas then read the log
                await self._connection.publish(subject, self._seal.close(subject, body))

    def _receive(self, subject: bytes, _reply: bytes, sealed: bytes, _headers: bytes | None) -> None:
        if (body := self._seal.open(subject, sealed)) is None:
            log.warning("dropped news of a commit that no replica has published")
            return
        _, _, tenant, family_id, seq = subject.decode().split(".")
        self._cache.put_remote((tenant, family_id), int(seq), body)
