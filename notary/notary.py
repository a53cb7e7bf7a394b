"""The notary: reads the log from the last signed tree on, signs the new tree, and appends the checkpoint to its stream.

A tree that it signs must begin with the tree that it signed last, which is on the disk before it is published, and with
the newest checkpoint, whoever signed that. So no two checkpoints of one key contradict each other, even if the notary
is killed at any time, runs twice with the same key, or the log changes: a log that is not the signed one gets no
further signature.
"""

import logging
from contextlib import aclosing
from pathlib import Path

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS
from events.bus.connection import Connection
from events.log.appender import Conflict
from events.log.direct_reader import read_direct
from events.log.grammar import Foreign
from events.log.log import Log
from notary.checkpoint import Checkpoint, read_checkpoint, sign
from notary.checkpoint_checker import CheckpointChecker, CheckState
from notary.file_names import PUBLIC_KEY
from notary.key_files import NoKey, NotaryState, known_keys, open_key, read_state, write_state
from notary.merkle_tree import leaf_hash
from notary.newest_checkpoint import newest_checkpoint
from notary.signed_note import MalformedNote

log = logging.getLogger("heirloom.notary")


class Refusal(Exception):
    """The log is not the one that was signed. This is an incident for a person; the text names both sizes."""


class Notary:
    """A key and its state, on one log. `start` it once."""

    def __init__(self, connection: Connection, key: Path, state: Path) -> None:
        """Open the files. Raises `NoKey`, and `Refusal` if the key and the state do not belong together."""
        self._connection = connection
        self._log = Log(connection)
        self._checkpoints = Log(connection, CHECKPOINTS)
        self.signer = open_key(key, state)
        self._state_path = state
        self._state = read_state(state)
        try:
            self._known = known_keys(key.with_name(PUBLIC_KEY))
        except MalformedNote as error:
            raise NoKey(f"{key.with_name(PUBLIC_KEY)} holds a line that is no key: {error}") from error
        self._looked_at = -1, -1
        self.foreign: set[int] = set()
        """The sequences of foreign messages seen in the checkpoints' stream."""
        if self._state.origin != self.signer.key.name:
            raise Refusal(f"{state} is of {self._state.origin}, the key in {key} is of {self.signer.key.name}")

    async def start(self) -> None:
        """Subscribe to acknowledgements, before the first `step`."""
        await self._checkpoints.start()

    async def step(self) -> Checkpoint | None:
        """Sign the commits since the last checkpoint. Returns the checkpoint that was appended, None without one.

        Raises `Refusal`, and `Unavailable` if the log cannot be read or written now.
        """
        stored = await self._checkpoints.newest(CHECKPOINT)
        last = 0 if stored is None else stored.seq
        end = await self._log.last_sequence()  # read after the checkpoints, so that all they cover is in it
        if (end, last) == self._looked_at:
            return None
        newest = await newest_checkpoint(self._connection, last, self._known, self._report_foreign)
        covered = 0 if newest is None else newest.size
        await self._refuse_another_log(end, covered)
        if covered < self._state.size:
            return await self._publish(read_checkpoint(self._state.signed.encode()), last)
        checker = await self._read_on(end, newest)
        if checker is None:
            return None
        if end == covered:
            self._looked_at = end, last
            return None
        return await self._publish(self._sign(checker), last)

    async def _refuse_another_log(self, end: int, covered: int) -> None:
        """Raise `Refusal` unless the log still begins with the tree that was signed."""
        size = self._state.size
        if end < max(size, covered):
            raise self._refusal(f"the log ends at sequence {end}, but a tree of {max(size, covered)} has been signed")
        if size > 0:
            there = await self._log.at(size)
            if there is None or leaf_hash(there.body) != self._state.last_leaf:
                raise self._refusal(f"the log of {end} holds another commit at {size} than the tree of {size} signed")

    async def _read_on(self, end: int, newest: Checkpoint | None) -> CheckpointChecker | None:
        """Read the tree up to `end`; None if it must be read again."""
        checker = CheckpointChecker(kept=newest, seen=CheckState(self._state.tree))
        connected = self._connection.stats["reconnects"]
        async with aclosing(read_direct(self._connection, self._state.size + 1, until=end)) as batches:
            async for batch in batches:
                checker.read(batch.messages)
        if self._connection.stats["reconnects"] != connected or checker.state.tree.size < end:
            return None  # after a reconnect, the first part may be of another log
        if checker.state.contradiction is not None:
            why = f"sequence {checker.state.contradiction.first} is bad: {checker.state.contradiction.why}"
            raise self._refusal(f"in the log of {end}, after the tree of {self._state.size} signed last, {why}")
        return checker

    def _sign(self, checker: CheckpointChecker) -> Checkpoint:
        read = checker.state
        checkpoint = sign(self.signer, read.tree)
        state = NotaryState(self._state.origin, *read.tree, last_leaf=read.last_leaf, signed=checkpoint.signed)
        write_state(self._state_path, state)  # before publishing: a signature binds even if the process ends here
        self._state = state
        return checkpoint

    async def _publish(self, checkpoint: Checkpoint, last: int) -> Checkpoint | None:
        try:
            await self._checkpoints.append(CHECKPOINT, CHECKPOINT, checkpoint.signed.encode(), last)
        except Conflict:
            return None  # another notary was first; the next step covers the rest
        return checkpoint

    def _report_foreign(self, found: Foreign) -> None:
        if found.seq not in self.foreign:
            self.foreign.add(found.seq)
            log.warning("%s sequence %d is stepped over: %s", found.stream, found.seq, found.reason)

    def _refusal(self, why: str) -> Refusal:
        return Refusal(
            f"the notary signs no more: {why}. The log was cut, replaced or restored from an old copy; find out which."
            f" To vouch for it as it is now under a new key, put away {self._state_path}, the key and the stream"
            f" {CHECKPOINTS}, and start again"
        )
