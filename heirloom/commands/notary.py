"""`heirloom audit prove`, `check-proof`, `checkpoint` and `notary-key`: evidence to hand on and to keep."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import click
import msgspec

from events.bus import Connection
from events.direct_reader import commit_at, read_direct
from events.stream import last_sequence
from events.subjects import CHECKPOINTS
from heirloom.commands.held_against import KEY, trusted
from heirloom.commands.options import DATA, FILE, where
from heirloom.commands.reading import progress, reading
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.key import PUBLIC
from notary.note import MalformedNote
from notary.proof import Proof, Prover, Unproven, check


@click.command()
@where
@click.option("--seq", type=click.IntRange(1), required=True, help="Of this message.")
@click.option("--into", type=FILE, help="Into this new file instead of standard output.")
def prove(data: Path, nats: str | None, seq: int, into: Path | None) -> None:
    """Write a proof that a message lies in the log.

    It is for somebody who has not got the log, and checks it with `check-proof`.
    """

    if into is not None and into.exists():
        raise click.ClickException(f"{into} exists already; name another with --into")

    async def run() -> Proof:
        async with reading(data, nats) as (connection, _):
            checkpoint = await _newest(connection)
            prover = Prover(seq, checkpoint)
            with progress("reading", checkpoint.size) as advance:
                async with aclosing(read_direct(connection, until=checkpoint.size)) as batches:
                    async for batch in batches:
                        for stored in batch.commits:
                            prover.read(stored.body)
                            advance(stored.seq)
            return prover.proof()

    try:
        text = msgspec.json.format(msgspec.json.encode(asyncio.run(run()))).decode()
    except Unproven as unproven:
        raise click.ClickException(str(unproven)) from unproven
    if into is None:
        click.echo(text)
        return
    try:
        into.write_text(text + "\n")
    except OSError as error:
        raise click.ClickException(f"{into} cannot be written: {error.strerror}; name another with --into") from error


@click.command("check-proof")
@DATA
@KEY
@click.option("--body", "body_file", type=FILE, help="It must be about this message body.")
@click.argument("file", type=FILE)
def check_proof(data: Path, keys: tuple[str, ...], body_file: Path | None, file: Path) -> None:
    """Check a proof; needs neither the log nor the service. Exits 1 if it proves nothing."""
    known = trusted(data, None, keys)
    try:
        proof = msgspec.json.decode(file.read_bytes(), type=Proof)
        body = None if body_file is None else body_file.read_bytes()
        checkpoint = check(proof, known, body)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, MalformedNote, Unproven) as error:
        raise click.ClickException(f"{file} proves nothing: {error}") from error
    signed = "signed by a known key" if known else "signature not checked: name a key with --key"
    body_is = f"the body of SHA-256 {proof.body_sha256}" if body is not None else "the leaf of this proof"
    click.echo(f"{body_is} lies at sequence {proof.seq} of {checkpoint.origin}, size {checkpoint.size} ({signed})")


@click.command()
@where
def checkpoint(data: Path, nats: str | None) -> None:
    """Print the newest signed checkpoint. Keep it: `audit verify --checkpoint` holds the log against it."""

    async def run() -> Checkpoint:
        async with reading(data, nats) as (connection, _):
            return await _newest(connection)

    click.echo(asyncio.run(run()).signed, nl=False)


@click.command("notary-key")
@DATA
def notary_key(data: Path) -> None:
    """Print the notary's public key, after those it had before. Keep it where the log's keeper cannot change it."""
    try:
        click.echo((data / PUBLIC).read_text(), nl=False)
    except OSError as error:
        raise click.ClickException(f"no notary has run on {data}") from error


async def _newest(connection: Connection) -> Checkpoint:
    stored = await commit_at(connection, await last_sequence(connection, CHECKPOINTS), CHECKPOINTS)
    if stored is None:
        raise click.ClickException("the log has no checkpoint yet; the notary appends one soon after a commit")
    try:
        return read_checkpoint(stored.body)
    except MalformedNote as error:
        raise click.ClickException(f"the newest checkpoint cannot be read: {error}") from error
