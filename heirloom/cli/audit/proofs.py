"""`heirloom audit prove`, `check-proof`, `checkpoint` and `notary-key`: evidence to hand on and to keep."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import click
import msgspec

from events.aggregates.aggregate_names import CHECKPOINTS
from events.bus.connection import Connection
from events.files import new_file
from events.log.direct_reader import read_direct
from events.log.stream import last_sequence
from heirloom.cli.audit.trust_options import KEY, NAME_A_KEY, UNSIGNED, trusted
from heirloom.cli.log_connection import reading, report_foreign
from heirloom.cli.options import DATA, FILE, where
from heirloom.cli.progress_bar import progress
from heirloom.cli.tables import print_text
from heirloom.data_directory import DataDirectory
from notary.checkpoint import Checkpoint
from notary.inclusion_proof import Proof, Prover, Unproven, check, read_proof
from notary.key_files import known_keys
from notary.newest_checkpoint import newest_checkpoint
from notary.signed_note import Key, MalformedNote


@click.command()
@where
@click.option("--seq", type=click.IntRange(1), required=True, help="Of this message.")
@click.option("--into", type=FILE, help="Into this new file instead of standard output.")
@click.option("--no-body", is_flag=True, help="Leave the message out: whoever checks the proof has it.")
@KEY
def prove(data: Path, nats: str | None, seq: int, into: Path | None, no_body: bool, keys: tuple[str, ...]) -> None:
    """Write a proof that a message lies in the log.

    It is for somebody who has not got the log, and checks it with `check-proof`. It holds the message.
    """
    if into is not None and into.exists():
        raise click.ClickException(f"{into} exists already; name another with --into")

    async def run() -> Proof:
        async with reading(data, nats) as (connection, _):
            checkpoint = await _newest(connection, trusted(data, nats, keys))
            prover = Prover(seq, checkpoint)
            with progress("reading", checkpoint.size) as advance:
                async with aclosing(read_direct(connection, until=checkpoint.size)) as batches:
                    async for batch in batches:
                        for stored in batch.messages:
                            prover.read(stored.body)
                            advance(stored.seq)
            return prover.proof()

    try:
        proof = asyncio.run(run())
    except Unproven as unproven:
        raise click.ClickException(str(unproven)) from unproven
    written = msgspec.structs.replace(proof, body=None) if no_body else proof
    text = msgspec.json.format(msgspec.json.encode(written)).decode()
    if into is None:
        click.echo(text)
        return
    try:
        with new_file(into) as file:
            file.write(f"{text}\n".encode())
    except FileExistsError as error:
        raise click.ClickException(f"{into} exists already; name another with --into") from error
    except OSError as error:
        raise click.ClickException(f"{into} cannot be written: {error.strerror}; name another with --into") from error


@click.command("check-proof")
@DATA
@KEY
@UNSIGNED
@click.option("--body", "body_file", type=FILE, help="The proof must be of this message body.")
@click.argument("file", type=FILE)
def check_proof(data: Path, keys: tuple[str, ...], unsigned: bool, body_file: Path | None, file: Path) -> None:
    """Check a proof; needs neither the log nor the service. Exits 1 if it proves nothing.

    Who signed is a part of it: without a key that you know there is no proof.
    """
    known = None if unsigned else trusted(data, None, keys)
    try:
        proof = read_proof(file.read_bytes())
        body = None if body_file is None else body_file.read_bytes()
        checkpoint = check(proof, known or None, body)
        if known == []:
            raise Unproven(f"no notary's key is known: {NAME_A_KEY}")
    except OSError as error:
        raise click.ClickException(f"{error.filename or file} cannot be read: {error.strerror}") from error
    except (ValueError, MalformedNote, Unproven) as error:
        raise click.ClickException(f"{file} proves nothing: {error}") from error
    where = f"sequence {proof.seq} of {checkpoint.origin}, size {checkpoint.size}"
    if known is None:
        click.echo("NOT PROVEN: that this is the log of the notary it names. Nobody's signature was checked")
    signed = "signature not checked" if known is None else "signed by a known key"
    print_text(f"the body of SHA-256 {proof.body_sha256} lies at {where} ({signed})")


@click.command()
@where
@KEY
def checkpoint(data: Path, nats: str | None, keys: tuple[str, ...]) -> None:
    """Print the newest signed checkpoint. Keep it: `audit verify --checkpoint` holds the log against it."""

    async def run() -> Checkpoint:
        async with reading(data, nats) as (connection, _):
            return await _newest(connection, trusted(data, nats, keys))

    click.echo(asyncio.run(run()).signed, nl=False)


@click.command("notary-key")
@DATA
def notary_key(data: Path) -> None:
    """Print the notary's public key, after those it had before. Keep it where the log's keeper cannot change it."""
    try:
        known_keys(DataDirectory(data).notary_public_key)  # a key that somebody keeps must be usable
        kept = (DataDirectory(data).notary_public_key).read_text()
    except (MalformedNote, ValueError) as error:
        raise click.ClickException(f"{DataDirectory(data).notary_public_key} cannot be used: {error}") from error
    except OSError as error:
        raise click.ClickException(f"no notary has run on {data}") from error
    click.echo(kept, nl=False)


async def _newest(connection: Connection, keys: list[Key]) -> Checkpoint:
    """The newest checkpoint, signed by a known key if any are known; reports those that it steps over."""
    last = await last_sequence(connection, CHECKPOINTS)
    if (newest := await newest_checkpoint(connection, last, keys, report_foreign)) is None:
        raise click.ClickException("the log has no checkpoint yet; the notary appends one soon after a commit")
    return newest
