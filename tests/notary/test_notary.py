"""The notary on a real log: when it signs, and when it refuses."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, STREAM
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import stream
from events.log.consumer_reader import read
from events.log.grammar import Foreign
from events.log.stored_message import StoredMessage
from heirloom.process.child_process import REFUSED
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.key_files import NoKey, NotaryState, read_state, write_state
from notary.log_verifier import LogVerifier, VerificationProgress
from notary.merged_reader import read_with_checkpoints
from notary.merkle_tree import leaf_hash
from notary.newest_checkpoint import newest_checkpoint
from notary.notary import Notary, Refusal
from notary.signed_note import Signer
from tests.broker import Broker
from tests.notary.log.logs import checkpoints_of, empty, rotated_log
from tests.notary.proofs import continues, prove_consistency


@dataclass
class Bench:
    """A log that tests write to, and a notary's files."""

    connection: Connection
    directory: Path

    async def notary(self, name: str = "notary") -> Notary:
        """A started notary. Other names have the same key and another state."""
        notary = Notary(self.connection, self.directory / "notary.key", self.directory / f"{name}.state")
        await notary.start()
        return notary

    async def write(self, *bodies: str) -> None:
        """Publish messages that are commits to the notary."""
        for body in bodies:
            await self.connection.jetstream().publish(f"tokens.acme.client.{body}", body.encode())

    async def stored(self, name: str = STREAM) -> list[StoredMessage]:
        """All messages of the stream."""
        found: list[StoredMessage] = []
        end = await stream.last_sequence(self.connection, name)
        async for batch in read(self.connection, stream=name, until=end):
            found += batch.messages
        return found

    async def checkpoints(self) -> list[Checkpoint]:
        """The stored checkpoints, after a check that they are consistent with each other and with the log."""
        leaves = [leaf_hash(stored.body) for stored in await self.stored()]
        found = [read_checkpoint(stored.body) for stored in await self.stored(CHECKPOINTS)]
        for old, new in pairwise(found):
            proof = prove_consistency(leaves[: new.size], old.size, new.size)
            assert continues(old.root, old.size, new.root, new.size, proof)
        return found

    async def replace(self, name: str, *bodies: str) -> None:
        """Replace the stream by these messages, as a restored backup does."""
        jetstream = self.connection.jetstream()
        await empty(self.connection, name)
        for body in bodies:
            await jetstream.publish(CHECKPOINT if name == CHECKPOINTS else "tokens.acme.client.x", body.encode())


@asynccontextmanager
async def _bench(broker: Broker, directory: Path) -> AsyncIterator[Bench]:
    connection = await connect(broker.url, "test")
    await stream.ensure(connection, stream.Required())
    try:
        yield Bench(connection, directory)
    finally:
        await connection.close()


@pytest.fixture
async def bench(nats_server: Broker, tmp_path: Path) -> AsyncIterator[Bench]:
    """A bench with an empty log."""
    async with _bench(nats_server, tmp_path) as bench:
        yield bench


async def test_it_signs_new_commits(bench: Bench) -> None:
    """One checkpoint for any number of commits, none for an idle log; it does not write to the log itself."""
    notary = await bench.notary()
    assert await notary.step() is None
    await bench.write("a", "b", "c")
    first = await notary.step()
    assert first is not None
    assert first.size == 3
    assert [await notary.step() for _ in range(3)] == [None, None, None]
    await bench.write("d")
    assert (await notary.step() or first).size == 4
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [3, 4]
    assert await stream.last_sequence(bench.connection) == 4
    verifier = LogVerifier(VerificationProgress(""))
    async for batch in read_with_checkpoints(bench.connection, 4):
        verifier.check(batch.messages)
    assert (verifier.report().checkpoints, verifier.report().covered) == (2, 4)


async def test_it_resumes_after_a_restart(bench: Bench, nats_server: Broker) -> None:
    """From its state, with the same key, also when the broker was killed meanwhile."""
    await bench.write("a", "b")
    one = await (await bench.notary()).step()
    assert await (await bench.notary()).step() is None
    await bench.write("c")
    await bench.connection.close()
    nats_server.kill()
    nats_server.start()
    async with _bench(nats_server, bench.directory) as again:
        two = await (await again.notary()).step()
        assert one is not None and two is not None
        assert (one.size, two.size, one.origin) == (2, 3, two.origin)
        assert await again.checkpoints() == [one, two]


async def test_two_notaries_make_one_history(bench: Bench) -> None:
    """With the same key, and a state each: the second adds nothing, or signs what follows."""
    one = await bench.notary()
    write_state(bench.directory / "other.state", NotaryState(one.signer.key.name))
    other = await bench.notary("other")
    await bench.write("a", "b")
    # each notary reads the log and signs before either appends
    signed: list[tuple[Notary, Checkpoint]] = []
    for notary in (one, other):
        checker = await notary._read_on(2 + len(signed), None)
        assert checker is not None
        signed.append((notary, notary._sign(checker)))
        await bench.write(f"between-{len(signed)}")
    outcomes = [await notary._publish(checkpoint, 0) for notary, checkpoint in signed]
    assert outcomes == [signed[0][1], None]
    for _ in range(2):
        for notary in (one, other):
            await notary.step()
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [2, 4]


async def test_a_log_restored_from_an_older_copy_gets_no_signature(bench: Bench) -> None:
    """Neither while it is shorter, nor when other commits have made it longer; a refusal names both sizes."""
    notary = await bench.notary()
    await bench.write("a", "b", "c", "d", "e")
    await notary.step()
    await bench.replace(STREAM, "a", "b")
    with pytest.raises(Refusal, match=r"ends at sequence 2, but a tree of 5 has been signed"):
        await notary.step()
    await bench.write("x", "y", "z", "u")
    for refusing in (notary, await bench.notary()):
        with pytest.raises(Refusal, match=r"log of 6 holds another commit at 5 than the tree of 5"):
            await refusing.step()
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [5]


async def test_checkpoints_restored_from_an_older_copy(bench: Bench) -> None:
    """The last signed checkpoint is appended again, not signed anew; then the notary goes on."""
    notary = await bench.notary()
    await bench.write("a", "b")
    signed = await notary.step()
    await bench.replace(CHECKPOINTS)
    await bench.write("c")
    assert await notary.step() == signed
    assert (await notary.step() or signed) != signed
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [2, 3]


async def test_checkpoints_reveal_an_older_state(bench: Bench) -> None:
    """After the notary's files were restored: the newest checkpoint counts, also against another log."""
    notary = await bench.notary()
    await bench.write("a")
    await notary.step()
    old = read_state(bench.directory / "notary.state")
    await bench.write("b")
    await notary.step()
    write_state(bench.directory / "notary.state", old)
    await bench.write("c")
    assert await (await bench.notary()).step() is not None
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [1, 2, 3]
    write_state(bench.directory / "notary.state", old)
    await bench.replace(STREAM, "a", "b")
    with pytest.raises(Refusal, match="ends at sequence 2, but a tree of 3 has been signed"):
        await (await bench.notary()).step()
    await bench.write("x", "y")
    with pytest.raises(Refusal, match="history differs somewhere in 1 to 3"):
        await (await bench.notary()).step()
    assert len(await bench.stored(CHECKPOINTS)) == 3


async def test_junk_does_not_stop_the_notary(bench: Bench) -> None:
    """Messages without a known signature are skipped and named once; older checkpoints below them are found."""
    notary = await bench.notary()
    await bench.write("a", "b", "c")
    first = await notary.step()
    junk = ["garbage", checkpoints_of(rotated_log(0).log, Signer.fresh("heirloom/stranger"), 3)[0].signed]
    assert first is not None
    for body in (*junk, first.signed):  # the last one is a replayed checkpoint
        await bench.connection.jetstream().publish(CHECKPOINT, body.encode())
    await bench.write("d")
    second = await notary.step()
    assert second is not None and second.size == 4
    assert await notary.step() is None and notary.foreign == {2, 3, 4}
    stored = await bench.stored(CHECKPOINTS)
    assert len(stored) == 5 and read_checkpoint(stored[-1].body).size == 4
    await bench.write("e")
    again = await (await bench.notary()).step()
    assert again is not None and again.size == 5


async def test_replayed_checkpoints_do_not_hide_the_largest(bench: Bench) -> None:
    """In any order: the search does not stop at a smaller one."""
    notary = await bench.notary()
    signed = []
    for commit in ("a", "b", "c"):
        await bench.write(commit)
        checkpoint = await notary.step()
        assert checkpoint is not None
        signed.append(checkpoint)
    for old in (signed[0], signed[1], signed[1], signed[0], signed[1]):
        await bench.connection.jetstream().publish(CHECKPOINT, old.signed.encode())
    found: list[Foreign] = []
    assert await newest_checkpoint(bench.connection, 8, [], found.append) == signed[2]
    assert [foreign.seq for foreign in found] == [4, 5, 6, 7, 8]
    assert await (await bench.notary()).step() is None


async def test_an_operator_can_start_over(bench: Bench) -> None:
    """Without key and state a new origin signs the log as it is, and the old public key stays known.

    Where the log contradicts the checkpoints, these must be removed as well.
    """
    await bench.write("a", "b")
    first = await (await bench.notary()).step()
    (bench.directory / "notary.state").unlink()
    with pytest.raises(NoKey, match=r"or put notary\.key away as well and start again, under a new key"):
        await bench.notary()
    (bench.directory / "notary.state").write_text("{")
    with pytest.raises(NoKey, match=r"or put it and notary\.key away and start again, under a new key"):
        await bench.notary()
    (bench.directory / "notary.state").unlink()
    (bench.directory / "notary.key").unlink()
    second = await (await bench.notary()).step()
    assert second is None  # there is no newer commit
    await bench.write("c")
    second = await (await bench.notary()).step()
    assert first is not None and second is not None
    assert first.origin != second.origin
    public = (bench.directory / "notary.pub").read_text().split()
    assert [line.split("+")[0] for line in public] == [first.origin, second.origin]
    assert await bench.checkpoints() == [first, second]
    for file in ("notary.key", "notary.state"):
        (bench.directory / file).unlink()
    await bench.replace(STREAM, "x")
    with pytest.raises(Refusal, match=f"put away {bench.directory}/notary.state, the key and the stream CHECKPOINTS"):
        await (await bench.notary()).step()
    await bench.replace(CHECKPOINTS)
    assert await (await bench.notary()).step() is not None


def test_its_key_is_private(tmp_path: Path) -> None:
    """Mode 0600; refused when others can read it, or when it does not belong to the state."""
    from notary.key_files import open_key

    key, state = tmp_path / "notary.key", tmp_path / "notary.state"
    open_key(key, state)
    assert key.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    with pytest.raises(NoKey, match="chmod 600"):
        open_key(key, state)
    key.unlink()
    write_state(state, NotaryState("heirloom/before", 3))
    with pytest.raises(NoKey, match="put the state away as well and start again, under a new key"):
        open_key(key, state)


def test_a_first_start_killed_between_its_files_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is written and the key is not: nothing was signed, so the next start makes both."""
    from events.files import replace
    from notary.key_files import open_key

    key, state = tmp_path / "notary.key", tmp_path / "notary.state"
    written = list[Path]()

    def dying(path: Path, content: bytes, mode: int = 0o600) -> None:
        if written:
            raise KeyboardInterrupt
        replace(path, content, mode)
        written.append(path)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("notary.key_files.replace", dying)
        open_key(key, state)
    assert written == [state] and not key.exists()
    signer = open_key(key, state)
    assert read_state(state) == NotaryState(signer.key.name)
    assert open_key(key, state).key == signer.key


async def test_the_process_is_killed_twice(bench: Bench, nats_server: Broker) -> None:
    """By SIGKILL, as soon as a checkpoint is stored; then the log is replaced: exit status 78."""
    sizes: list[int] = []
    for round in range(3):
        await bench.write(f"round-{round}", f"again-{round}")
        with _process(nats_server, bench.directory) as process:
            sizes.append(await _next_checkpoint(bench, max(sizes, default=0)))
            process.send_signal(signal.SIGKILL)
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == sizes == [2, 4, 6]
    await bench.replace(STREAM, "a")
    with _process(nats_server, bench.directory) as process:
        assert process.wait(10) == REFUSED
        assert process.stderr is not None
        assert b"a tree of 6 has been signed" in process.stderr.read()


def _process(broker: Broker, directory: Path) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "HEIRLOOM_NATS_URL": broker.url,
        "HEIRLOOM_NOTARY_KEY": str(directory / "notary.key"),
        "HEIRLOOM_NOTARY_STATE": str(directory / "notary.state"),
        "HEIRLOOM_NOTARY_SECONDS": "0.05",
    }
    command = [sys.executable, "-m", "heirloom.notary"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


async def _next_checkpoint(bench: Bench, after: int) -> int:
    """The size of the first stored checkpoint that is larger than `after`; waits for it."""
    async for batch in read(bench.connection, stream=CHECKPOINTS):
        for stored in batch.messages:
            if (size := read_checkpoint(stored.body).size) > after:
                return size
    raise AssertionError
