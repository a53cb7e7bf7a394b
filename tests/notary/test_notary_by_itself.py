"""The notary on a log in memory: what it reads, signs, saves and appends in one step, and what it refuses."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, STREAM
from events.bus.connection import Connection
from events.log.appender import Conflict
from events.log.consumer_reader import Batch
from events.log.stored_message import StoredMessage
from notary import newest_checkpoint, notary
from notary.checkpoint import Checkpoint, read_checkpoint, sign
from notary.key_files import NoKey, NotaryState, open_key, read_state, write_state
from notary.merkle_tree import Tree, leaf_hash
from notary.notary import Notary, Refusal
from notary.signed_note import Signer


class World:
    """Two streams and a notary's files. `reads` lists the ranges of the log that were read."""

    def __init__(self, directory: Path) -> None:
        self.key, self.state = directory / "notary.key", directory / "notary.state"
        self.streams: dict[str, list[StoredMessage]] = {STREAM: [], CHECKPOINTS: []}
        self.reads: list[tuple[int, int]] = []
        self.started: list[str] = []
        self.connection = cast("Connection", SimpleNamespace(stats={"reconnects": 0}))
        self.reconnects = self.breaks_off = False

    def write(self, *bodies: str) -> None:
        """Append messages that are commits to the notary."""
        log = self.streams[STREAM]
        log += [
            StoredMessage(seq, "tokens.acme.tenant", body.encode()) for seq, body in enumerate(bodies, len(log) + 1)
        ]

    def shows(self, *bodies: str) -> None:
        """Append messages to the checkpoints' stream."""
        stream = self.streams[CHECKPOINTS]
        stream += [StoredMessage(seq, CHECKPOINT, body.encode()) for seq, body in enumerate(bodies, len(stream) + 1)]

    def notary(self) -> Notary:
        """A notary with these files."""
        return Notary(self.connection, self.key, self.state)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints in their stream."""
        return [read_checkpoint(stored.body) for stored in self.streams[CHECKPOINTS]]

    async def read(
        self, connection: Any, start: int = 1, *, stream: str = STREAM, until: int | None = None
    ) -> AsyncIterator[Batch]:
        """As `read_direct`, in batches of two."""
        assert connection is self.connection and until is not None
        found = self.streams[stream][start - 1 : until]
        if stream == STREAM:
            self.reads.append((start, until))
            found = found[: -1 if self.breaks_off else None]
            self.connection.stats["reconnects"] += self.reconnects
        for place in range(0, len(found), 2):
            yield Batch(found[place : place + 2], 0)


class InMemory:
    """One of the streams, with the interface of `Log`."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name

    async def start(self) -> None:
        """As `Log.start`."""
        self._world.started.append(self._name)

    async def last_sequence(self) -> int:
        """As `Log.last_sequence`."""
        return len(self._world.streams[self._name])

    async def at(self, seq: int) -> StoredMessage | None:
        """As `Log.at`."""
        return next((stored for stored in self._world.streams[self._name] if stored.seq == seq), None)

    async def newest(self, subject: str) -> StoredMessage | None:
        """As `Log.newest`."""
        return next((stored for stored in reversed(self._world.streams[self._name]) if stored.subject == subject), None)

    async def append(self, subject: str, filter: str, body: bytes, expected: int) -> int:
        """As `Log.append`."""
        assert (self._name, subject, filter) == (CHECKPOINTS, CHECKPOINT, CHECKPOINT)
        if expected != len(self._world.streams[CHECKPOINTS]):
            raise Conflict
        self._world.shows(body.decode())
        return expected + 1


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An empty world, which the notary reads and writes."""
    world = World(tmp_path)

    def log(connection: Connection, name: str = STREAM) -> InMemory:
        assert connection is world.connection
        return InMemory(world, name)

    monkeypatch.setattr(notary, "Log", log)
    monkeypatch.setattr(notary, "read_direct", world.read)
    monkeypatch.setattr(newest_checkpoint, "read_direct", world.read)
    return world


def over(*bodies: str) -> Tree:
    """The tree over these bodies."""
    return Tree().add(*(leaf_hash(body.encode()) for body in bodies))


async def test_new_commits_are_signed_and_saved_before_they_are_published(world: World) -> None:
    """The state holds the tree, its last leaf and the checkpoint; an idle log is not read again."""
    one = world.notary()
    await one.start()
    assert world.started == [CHECKPOINTS]
    assert await one.step() is None and await one.step() is None
    assert world.reads == [(1, 0)] and not world.checkpoints(), "an empty log is read only once"
    world.write("a", "b", "c")
    made = await one.step()
    assert made == sign(one.signer, over("a", "b", "c"))
    assert world.checkpoints() == [made]
    tree = over("a", "b", "c")
    assert read_state(world.state) == NotaryState(
        made.origin, size=3, edge=tree.edge, last_leaf=leaf_hash(b"c"), signed=made.signed
    )
    assert [await one.step() for _ in range(3)] == [None, None, None]
    assert world.reads == [(1, 0), (1, 3), (4, 3)], "read once more, with nothing new"
    world.write("d")
    assert await one.step() == sign(one.signer, over("a", "b", "c", "d"))
    assert world.reads[3:] == [(4, 4)]


async def test_it_resumes_from_its_state(world: World) -> None:
    """Also after a single commit; the log is not read again from its beginning."""
    world.write("a")
    await world.notary().step()
    world.write("b")
    assert await world.notary().step() == sign(open_key(world.key, world.state), over("a", "b"))
    assert world.reads == [(1, 1), (2, 2)]


async def test_only_a_saved_checkpoint_is_published(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk nothing is signed; a checkpoint that was saved and not published is published the next time."""
    world.write("a", "b", "c")
    one = world.notary()
    with monkeypatch.context() as patched:
        patched.setattr(notary, "write_state", full)
        with pytest.raises(OSError, match="full"):
            await one.step()
    assert not world.checkpoints() and one._state.size == 0
    with monkeypatch.context() as patched:
        patched.setattr(InMemory, "append", full)
        with pytest.raises(OSError, match="full"):
            await one.step()
    signed = read_checkpoint(read_state(world.state).signed.encode())
    world.write("d")
    for asked in (one, world.notary()):
        world.streams[CHECKPOINTS].clear()
        assert await asked.step() == signed
        assert world.checkpoints() == [signed]


def full(*_: Any) -> Any:
    """Fail as on a full disk."""
    raise OSError("full")


async def test_the_second_notary_adds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one appended first: commits without a checkpoint are signed in the next step."""
    world.write("a")
    one = world.notary()
    with monkeypatch.context() as patched:

        async def read(*arguments: Any, **asked: Any) -> AsyncIterator[Batch]:
            world.shows("junk")
            async for batch in world.read(*arguments, **asked):
                yield batch

        patched.setattr(notary, "read_direct", read)
        assert await one.step() is None
    assert await one.step() == sign(one.signer, over("a"))


async def test_messages_without_a_known_signature_are_named(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Once each, and skipped."""
    caplog.set_level(logging.WARNING, "heirloom.notary")
    one = world.notary()
    stranger = sign(Signer.fresh("heirloom/stranger"), over("x", "y"))
    world.write("a")
    world.shows("junk", stranger.signed)
    assert one.foreign == set()
    assert await one.step() is not None
    world.streams[CHECKPOINTS].pop()
    world.write("b")
    assert await one.step() is not None
    assert one.foreign == {1, 2}
    assert [record.getMessage() for record in caplog.records] == [
        "CHECKPOINTS sequence 1 is stepped over: no checkpoint: not a signed note",
        "CHECKPOINTS sequence 2 is stepped over: a checkpoint that no known key has signed",
    ]


REFUSES = r"^the notary signs no more: {}\. The log was cut, replaced or restored from an old copy; find out which"


async def test_a_shorter_log_is_refused(world: World) -> None:
    """Shorter than the signed tree, or than a stored checkpoint of its key: the error names both sizes."""
    one = world.notary()
    world.write("a", "b", "c")
    await one.step()
    del world.streams[STREAM][2]
    expected = REFUSES.format("the log ends at sequence 2, but a tree of 3 has been signed")
    with pytest.raises(Refusal, match=f"{expected}.* put away {world.state}, the key and the stream CHECKPOINTS, and"):
        await one.step()
    write_state(world.state, NotaryState(one.signer.key.name))
    with pytest.raises(Refusal, match=expected):
        await world.notary().step()
    assert len(world.checkpoints()) == 1


@pytest.mark.parametrize("size", [1, 3])
async def test_another_log_is_refused(world: World, size: int) -> None:
    """The last signed commit is another one, or is missing."""
    one = world.notary()
    bodies = ["a", "b", "c"][:size]
    world.write(*bodies)
    await one.step()
    world.write("d")
    log = world.streams[STREAM]
    expected = REFUSES.format(rf"the log of {size + 1} holds another commit at {size} than the tree of {size} signed")
    last = log[size - 1]
    for instead in (StoredMessage(size, last.subject, b"other"), StoredMessage(99, last.subject, last.body)):
        log[size - 1] = instead
        for asked in (one, world.notary()):
            with pytest.raises(Refusal, match=expected):
                await asked.step()
    log[size - 1] = last
    assert await one.step() is not None


async def test_a_checkpoint_over_another_history_is_refused(world: World) -> None:
    """Whether it covers more than the state, or as much."""
    one = world.notary()
    other = sign(one.signer, over("x", "y", "z")).signed
    differs = (
        "sequence 1 is bad: history differs somewhere in 1 to 3: the checkpoint of size 3 was signed over another one"
    )
    world.write("a")
    assert await one.step() is not None
    world.write("b", "c")
    world.shows(other)
    with pytest.raises(Refusal, match=REFUSES.format(f"in the log of 3, after the tree of 1 signed last, {differs}")):
        await one.step()
    world.streams[CHECKPOINTS].pop()
    assert await one.step() is not None
    world.streams[CHECKPOINTS].clear()
    world.shows(other)
    for asked in (one, world.notary()):
        with pytest.raises(Refusal, match="after the tree of 3 signed last"):
            await asked.step()


async def test_a_checkpoint_of_its_key_from_elsewhere_is_compared_with_the_log(world: World) -> None:
    """It agrees: nothing is added, and later commits are signed."""
    one = world.notary()
    world.write("a", "b")
    made = sign(one.signer, over("a", "b"))
    world.shows(made.signed)
    assert await one.step() is None
    world.write("c")
    assert await one.step() == sign(one.signer, over("a", "b", "c"))


async def test_an_ambiguous_reading_is_repeated(world: World) -> None:
    """After a reconnect during the reading, or an incomplete one; neither is a reason to refuse."""
    one = world.notary()
    world.write("a", "b", "c")
    world.reconnects = True
    assert await one.step() is None
    world.reconnects, world.breaks_off = False, True
    assert await one.step() is None
    world.reconnects = True
    assert await one.step() is None
    world.reconnects = world.breaks_off = False
    assert not world.checkpoints() and read_state(world.state).size == 0
    assert await one.step() is not None


def test_key_and_state_belong_together(world: World) -> None:
    """And every line of the public key file must be a key."""
    one = world.notary()
    write_state(world.state, NotaryState("heirloom/other"))
    with pytest.raises(Refusal, match=f"^{world.state} is of heirloom/other, the key in {world.key} is of heirloom/"):
        world.notary()
    write_state(world.state, NotaryState(one.signer.key.name))
    public = world.key.with_name("notary.pub")
    public.write_text(public.read_text() + "nonsense\n")
    with pytest.raises(NoKey, match=f"^{public} holds a line that is no key: "):
        world.notary()
