"""The notary on a real log: when it vouches, and when it refuses to."""

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

from events import bus, stream
from events.log import Log, Stored
from events.reader import read
from events.subjects import CHECKPOINT
from heirloom.child import REFUSED
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.key import NoKey, State, read_state, write_state
from notary.merkle import continues, leaf_hash, prove_consistency
from notary.notary import CHECKPOINTS, Notary, Refusal
from notary.note import Signer
from notary.verify import LogVerifier, Terms
from projections.commit import read_commit
from tests.broker import Broker
from tests.notary.logs import vouch
from tests.projections.logs import LogMaker


@dataclass
class Bench:
    """A log that tests write to, and the files of a notary."""

    connection: bus.Connection
    log: Log
    directory: Path

    def notary(self, name: str = "notary") -> Notary:
        """Started again, if it ran before. Other names have the same key and a state of their own."""
        return Notary(self.connection, self.log, self.directory / "notary.key", self.directory / f"{name}.state")

    async def write(self, *bodies: str) -> None:
        """Commits, as far as the notary is concerned."""
        for body in bodies:
            await self.connection.jetstream().publish(f"tokens.acme.client.{body}", body.encode())

    async def stored(self) -> list[Stored]:
        """The whole log."""
        found: list[Stored] = []
        end = await stream.last_sequence(self.connection)
        async for batch in read(self.connection, until=end):
            found += batch.commits
        return found

    async def checkpoints(self) -> list[Checkpoint]:
        """Those in the log, which must be consistent with each other and with it."""
        log = await self.stored()
        leaves = [leaf_hash(stored.body) for stored in log]
        found = [read_checkpoint(stored.body) for stored in log if stored.subject == CHECKPOINT]
        for old, new in pairwise(found):
            proof = prove_consistency(leaves[: new.size], old.size, new.size)
            assert continues(old.root, old.size, new.root, new.size, proof)
        return found

    async def replace_log(self, *bodies: str) -> None:
        """What a restored backup is to who looks from outside: the same stream with other messages in it."""
        jetstream = self.connection.jetstream()
        await jetstream.delete_stream("TOKENS")
        await stream.ensure(self.connection, stream.Required())
        for body in bodies:
            await jetstream.publish(
                CHECKPOINT if body.startswith("heirloom/") else "tokens.acme.client.x", body.encode()
            )


@asynccontextmanager
async def _bench(broker: Broker, directory: Path) -> AsyncIterator[Bench]:
    connection = await bus.connect(broker.url, "test")
    await stream.ensure(connection, stream.Required())
    log = Log(connection)
    await log.start()
    try:
        yield Bench(connection, log, directory)
    finally:
        await connection.close()


@pytest.fixture
async def bench(nats_server: Broker, tmp_path: Path) -> AsyncIterator[Bench]:
    """An empty log."""
    async with _bench(nats_server, tmp_path) as bench:
        yield bench


async def test_it_vouches_for_commits_and_not_for_checkpoints(bench: Bench) -> None:
    """One checkpoint for whatever came, none for an idle log, and none for a checkpoint."""
    notary = bench.notary()
    assert await notary.step() is None
    await bench.write("a", "b", "c")
    first = await notary.step()
    assert first is not None
    assert first.size == 3
    assert [await notary.step() for _ in range(3)] == [None, None, None]
    await bench.write("d")
    assert (await notary.step() or first).size == 5
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [3, 5]
    log = await bench.stored()
    assert read_commit(log[3]) is None  # the read model lets it pass
    verifier = LogVerifier(Terms(end=len(log)))
    for stored in log:
        verifier.check(stored)
    assert verifier.report().covered == 5


async def test_it_goes_on_after_a_restart(bench: Bench, nats_server: Broker) -> None:
    """From its state, with the same key, whether or not the broker was killed meanwhile."""
    await bench.write("a", "b")
    one = await bench.notary().step()
    assert await bench.notary().step() is None
    await bench.write("c")
    await bench.connection.close()
    nats_server.kill()
    nats_server.start()
    async with _bench(nats_server, bench.directory) as again:
        two = await again.notary().step()
        assert one is not None and two is not None
        assert (one.size, two.size, one.origin) == (2, 4, two.origin)
        assert await again.checkpoints() == [one, two]


async def test_two_notaries_make_one_history(bench: Bench) -> None:
    """With the same key and each its own state: who comes second has nothing to add, or signs what follows."""
    one = bench.notary()
    write_state(bench.directory / "other.state", State(one._signer.key.name))
    other = bench.notary("other")
    await bench.write("a", "b")
    # each has read the log and signed before either appends
    newest = await bench.log.last_from_leader(CHECKPOINTS)
    signed: list[tuple[Notary, Checkpoint]] = []
    for notary in (one, other):
        witness = await notary._read_on(2 + len(signed))
        assert witness is not None
        signed.append((notary, notary._sign(witness)))
        await bench.write(f"between-{len(signed)}")
    outcomes = [await notary._publish(checkpoint, newest) for notary, checkpoint in signed]
    assert outcomes == [signed[0][1], None]
    for _ in range(2):
        for notary in (one, other):
            await notary.step()
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [2, 5]


async def test_what_was_signed_is_published_after_a_crash(bench: Bench) -> None:
    """It died after the state was on the disk and before the append: the same checkpoint, once."""
    notary = bench.notary()
    await bench.write("a", "b", "c")
    witness = await notary._read_on(3)
    assert witness is not None
    signed = notary._sign(witness)
    assert await bench.checkpoints() == []
    again = bench.notary()
    assert await again.step() == signed
    assert await again.step() is None
    assert await bench.checkpoints() == [signed]


async def test_a_log_restored_from_an_older_copy_gets_no_signature(bench: Bench) -> None:
    """Neither while it is shorter, nor when other commits have made it longer; and a refusal names both sizes."""
    notary = bench.notary()
    await bench.write("a", "b", "c", "d", "e")
    await notary.step()
    await bench.replace_log("a", "b")
    with pytest.raises(Refusal, match=r"ends at sequence 2, but a tree of 5 has been signed"):
        await notary.step()
    await bench.write("x", "y", "z", "u")
    for refusing in (notary, bench.notary()):
        with pytest.raises(Refusal, match=r"log of 6 holds another commit at 5 than the tree of 5"):
            await refusing.step()
    assert await bench.checkpoints() == []


async def test_an_older_state_is_caught_by_the_log(bench: Bench) -> None:
    """The notary's files were restored: it reads what it has forgotten from the log, and goes on."""
    notary = bench.notary()
    await bench.write("a")
    await notary.step()
    old = read_state(bench.directory / "notary.state")
    await bench.write("b")
    await notary.step()
    write_state(bench.directory / "notary.state", old)
    await bench.write("c")
    again = await bench.notary().step()
    assert again is not None
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == [1, 3, 5]


async def test_a_contradiction_in_the_log_ends_it(bench: Bench) -> None:
    """Its own old checkpoint over another history, and one by a stranger: it signs neither again."""
    notary = bench.notary()
    made = LogMaker()
    for number in range(3):
        made.open(f"f{number}")
    vouch(made, notary._signer)
    signed = made.log[-1].body.decode()
    await bench.replace_log("a", "b", "c", signed)
    with pytest.raises(Refusal, match="history differs somewhere in 1 to 3: the checkpoint at 4"):
        await notary.step()
    vouch(made, Signer.fresh("heirloom/stranger"))
    await bench.replace_log("a", "b", made.log[-1].body.decode())
    with pytest.raises(Refusal, match="no known key has signed the checkpoint of 4 at 3"):
        await notary.step()
    await bench.replace_log("a", "heirloom/garbage")
    with pytest.raises(Refusal, match="no checkpoint"):
        await notary.step()


async def test_a_person_can_begin_anew(bench: Bench) -> None:
    """Key and state put away: a new origin vouches for the log as it is, and the old public key stays known."""
    await bench.write("a", "b")
    first = await bench.notary().step()
    (bench.directory / "notary.state").unlink()
    with pytest.raises(NoKey, match="what was signed last is not known"):
        bench.notary()
    (bench.directory / "notary.key").unlink()
    second = await bench.notary().step()
    assert second is None  # nothing was committed since
    await bench.write("c")
    second = await bench.notary().step()
    assert first is not None and second is not None
    assert first.origin != second.origin
    public = (bench.directory / "notary.pub").read_text().split()
    assert [line.split("+")[0] for line in public] == [first.origin, second.origin]
    assert await bench.checkpoints() == [first, second]


def test_its_key_is_its_own(tmp_path: Path) -> None:
    """Mode 0600, and refused when others can read it, or when it is not the state's."""
    from notary.key import open_key

    key, state = tmp_path / "notary.key", tmp_path / "notary.state"
    open_key(key, state)
    assert key.stat().st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o600
    key.chmod(0o644)
    with pytest.raises(NoKey, match="chmod 600"):
        open_key(key, state)
    key.unlink()
    write_state(state, State("heirloom/before", 3))
    with pytest.raises(NoKey, match="put the state away"):
        open_key(key, state)


async def test_the_process_killed_and_killed_again(bench: Bench, nats_server: Broker) -> None:
    """kill -9 as soon as a checkpoint shows, and a restart, and a log that was restored: exit status 78."""
    sizes: list[int] = []
    for round in range(3):
        await bench.write(f"round-{round}", f"again-{round}")
        with _process(nats_server, bench.directory) as process:
            sizes.append(await _next_checkpoint(bench, max(sizes, default=0)))
            process.send_signal(signal.SIGKILL)
    assert [checkpoint.size for checkpoint in await bench.checkpoints()] == sizes == [2, 5, 8]
    await bench.replace_log("a")
    with _process(nats_server, bench.directory) as process:
        assert process.wait(10) == REFUSED
        assert process.stderr is not None
        assert b"a tree of 8 has been signed" in process.stderr.read()


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
    """The size of the first checkpoint beyond that size, once it is in the log."""
    async for batch in read(bench.connection, filters=(CHECKPOINT,)):
        for stored in batch.commits:
            if (size := read_checkpoint(stored.body).size) > after:
                return size
    raise AssertionError
