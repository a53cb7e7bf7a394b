"""What `heirloom audit verify` holds the log against beyond itself: the notary's keys, a checkpoint that was kept."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from events.verify import Report
from heirloom.commands.options import where
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.key import PUBLIC, known_keys
from notary.note import Key, MalformedNote, parse_key
from notary.verify import Terms

KEY = click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="VKEY",
    help="A notary's public key that you know; otherwise those in --data.",
)


def held_against(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--data`, `--nats`, `--checkpoint` and `--key`; the command gets `data`, `nats` and `terms`."""

    @wraps(command)
    def with_terms(*, data: Path, nats: str | None, kept: Path | None, keys: tuple[str, ...], **others: Any) -> None:
        known = trusted(data, nats, keys)
        checkpoint = None if kept is None else read_kept(kept, known)
        terms = Terms(tuple(map(str, known)), None if checkpoint is None else checkpoint.signed)
        command(data=data, nats=nats, terms=terms, **others)

    option = click.option(
        "--checkpoint",
        "kept",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A checkpoint you kept: the log must still be the one that it was signed over.",
    )
    return where(option(KEY(with_terms)))


def trusted(data: Path, nats: str | None, given: tuple[str, ...]) -> list[Key]:
    """Those named, or else those of the data directory, if that is where the log is. Raises `click.ClickException`."""
    try:
        if not given and nats is None and (data / PUBLIC).exists():
            return known_keys(data / PUBLIC)
        return [parse_key(line) for line in given]
    except MalformedNote as error:
        raise click.ClickException(f"a notary's key cannot be read: {error}") from error


def read_kept(path: Path, keys: list[Key]) -> Checkpoint:
    """The checkpoint in a file, signed by one of the keys if any are known. Raises `click.ClickException`."""
    try:
        checkpoint = read_checkpoint(path.read_bytes())
    except (OSError, MalformedNote) as error:
        raise click.ClickException(f"{path} holds no checkpoint: {error}") from error
    if keys and not checkpoint.is_signed_by(keys):
        raise click.ClickException(f"{path} is signed by none of the known keys")
    return checkpoint


def told(report: Report, terms: Terms) -> str:
    """For a person: how far a log that is whole is vouched for."""
    if report.checkpoints == 0 and terms.kept is None:
        return "there is no checkpoint of it: what came last is vouched for by nothing"
    signed = "signed by a known key" if terms.keys else "signatures not checked: name a key with --key"
    agree = "checkpoint agrees" if report.checkpoints == 1 else "checkpoints agree"
    return f"{report.checkpoints:,} {agree} with it up to sequence {report.covered} ({signed})"
