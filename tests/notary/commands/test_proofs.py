"""An auditor's commands: save a checkpoint, prove a message, check a proof, verify the log against a checkpoint."""

import asyncio
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from pymerkle.proof import InclusionProof

from events.aggregates.aggregate_names import CHECKPOINTS, STREAM
from events.bus.connect import connect
from events.log import stream
from heirloom.cli.main import main
from notary.checkpoint import read_checkpoint
from notary.inclusion_proof import Proof
from notary.notary import Notary
from tests.broker import Broker
from tests.notary.log.logs import empty
from tests.projections.logs import LogMaker

BODY = b"another body"


def heirloom(*arguments: str) -> Result:
    """Run `heirloom audit` in this process."""
    return CliRunner().invoke(main, ["audit", *arguments])


async def write(url: str, directory: Path, made: LogMaker, start: int = 0) -> None:
    """Publish the messages after `start`, and have a notary sign the log."""
    connection = await connect(url, "test")
    await stream.ensure(connection, stream.Required())
    for stored in made.log[start:]:
        await connection.jetstream().publish(stored.subject, stored.body)
    notary = Notary(connection, directory / "notary.key", directory / "notary.state")
    await notary.start()
    await notary.step()
    await connection.close()


async def replace(url: str, directory: Path, made: LogMaker) -> None:
    """Replace the log and its checkpoints by this log, without a checkpoint."""
    connection = await connect(url, "test")
    await empty(connection, STREAM, CHECKPOINTS)
    for stored in made.log:
        await connection.jetstream().publish(stored.subject, stored.body)
    await connection.close()


def families(*names: str) -> LogMaker:
    """A log in which these families begin."""
    made = LogMaker()
    for name in names:
        made.open(name)
    return made


def test_prove_and_check(nats_server: Broker, tmp_path: Path) -> None:
    """A proof needs no log, convinces another implementation, and is refused when altered."""
    made = families(*(f"f{number}" for number in range(11)))
    asyncio.run(write(nats_server.url, tmp_path, made))
    path, body, other = tmp_path / "proof", tmp_path / "body", tmp_path / "other"
    body.write_bytes(made.log[6].body)
    other.write_bytes(BODY)
    assert heirloom("prove", "--nats", nats_server.url, "--seq", "7", "--into", str(path)).exit_code == 0
    done = heirloom("check-proof", "--data", str(tmp_path), "--body", str(body), str(path))
    assert "lies at sequence 7" in done.output
    assert "signed by a known key" in done.output
    proof = msgspec.json.decode(path.read_bytes(), type=Proof)
    _convinces_pymerkle(proof)
    assert "about another body" in heirloom("check-proof", "--body", str(other), str(path)).output
    for altered in (
        msgspec.structs.replace(proof, leaf_index=5, seq=6),
        msgspec.structs.replace(proof, hashes=proof.hashes[1:]),
        msgspec.structs.replace(proof, leaf_hash=proof.hashes[0]),
        msgspec.structs.replace(proof, tree_size=10),
        msgspec.structs.replace(proof, checkpoint=proof.checkpoint.replace("\n11\n", "\n12\n")),
    ):
        path.write_bytes(msgspec.json.encode(altered))
        assert heirloom("check-proof", "--data", str(tmp_path), str(path)).exit_code == 1
    for into, why in ((body, "exists already"), (tmp_path / "nowhere" / "proof", "cannot be written: No such file")):
        refused = heirloom("prove", "--nats", nats_server.url, "--seq", "7", "--into", str(into))
        assert (refused.exit_code, why in refused.output, body.read_bytes()) == (1, True, made.log[6].body)
    late = heirloom("prove", "--nats", nats_server.url, "--seq", "12")
    assert (late.exit_code, "covers the log up to 11" in late.output) == (1, True)


def _convinces_pymerkle(proof: Proof) -> None:
    sides, index, stop = [], proof.leaf_index, proof.tree_size
    while stop > 1:  # the sides of the path, from the sizes alone (RFC 6962 §2.1.1)
        split = 1 << (stop - 1).bit_length() - 1
        sides.append(int(index >= split))
        index, stop = (index - split, stop - split) if index >= split else (index, split)
    rule = [*reversed(sides), 0]
    theirs = InclusionProof("sha256", True, proof.tree_size, proof.seq, [], [proof.leaf_hash, *proof.hashes])
    theirs.rule = rule
    assert theirs.compute_root() == read_checkpoint(proof.checkpoint.encode()).root


def test_verify_against_a_kept_checkpoint(nats_server: Broker, tmp_path: Path) -> None:
    """It agrees as the log grows; a truncated or replaced log fails, with the first bad sequence."""
    made = families("f1", "f2", "f3", "f4")
    asyncio.run(write(nats_server.url, tmp_path, made))
    nats, key = ("--nats", nats_server.url), heirloom("notary-key", "--data", str(tmp_path)).output.strip()
    kept = tmp_path / "kept"
    kept.write_text(heirloom("checkpoint", *nats).output)
    held = ("--checkpoint", str(kept), "--key", key)
    good = heirloom("verify", *nats, *held)
    assert good.exit_code == 0, good.output
    assert "1 checkpoint agrees with it up to sequence 4 (signed by a known key)" in good.output
    asyncio.run(replace(nats_server.url, tmp_path, families("f1", "f2", "f3")))
    assert heirloom("verify", *nats).exit_code == 0
    cut = heirloom("verify", *nats, *held)
    assert cut.exit_code == 1
    assert "BAD: sequence 4: missing" in cut.output
    asyncio.run(replace(nats_server.url, tmp_path, families("f1", "f2", "f4", "f3", "f5")))
    other = heirloom("verify", *nats, *held)
    assert other.exit_code == 1
    assert "history differs somewhere in 1 to 4" in other.output
    asyncio.run(replace(nats_server.url, tmp_path, families()))
    assert heirloom("verify", *nats, *held).exit_code == 1


@pytest.mark.parametrize("text", ["", "nothing\n", "a\n1\nAA==\n\n— a AAAA\n"])
def test_malformed_checkpoints_and_keys(tmp_path: Path, text: str) -> None:
    """Each is refused in one clear line."""
    kept = tmp_path / "kept"
    kept.write_text(text)
    done = heirloom("verify", "--nats", "nats://127.0.0.1:1", "--checkpoint", str(kept))
    assert (done.exit_code, "holds no checkpoint" in done.output) == (1, True)
    assert "cannot be read" in heirloom("verify", "--key", "x+y+z").output
    assert "proves nothing" in heirloom("check-proof", "--data", str(tmp_path), str(kept)).output
    assert "no notary has run" in heirloom("notary-key", "--data", str(tmp_path)).output
