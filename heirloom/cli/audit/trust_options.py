"""What `heirloom audit verify` checks the log against: the notary's keys, and a checkpoint that was kept."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from events.verification.verifier import Report
from heirloom.cli.options import where
from heirloom.data_directory import DataDirectory
from notary.checkpoint import Checkpoint, read_checkpoint
from notary.key_files import known_keys
from notary.log_verifier import Terms
from notary.signed_note import Key, MalformedNote, parse_key

KEY = click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="VKEY",
    help="A notary's public key that you know; otherwise those in --data.",
)


UNSIGNED = click.option(
    "--unsigned",
    is_flag=True,
    help="Do not check who signed. What that leaves open is then said.",
)
NAME_A_KEY = "name it with --key, as `heirloom audit notary-key` prints it; --unsigned leaves open who signed"


def held_against(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--data`, `--nats`, `--checkpoint`, `--key` and `--unsigned`; the command gets `data`, `nats`, `terms`."""

    @wraps(command)
    def with_terms(
        *, data: Path, nats: str | None, kept: Path | None, keys: tuple[str, ...], unsigned: bool, **others: Any
    ) -> None:
        known = [] if unsigned else trusted(data, nats, keys)
        checkpoint = None if kept is None else read_kept(kept, None if unsigned else known)
        terms = Terms(tuple(map(str, known)), None if checkpoint is None else checkpoint.signed)
        command(data=data, nats=nats, terms=terms, **others)

    option = click.option(
        "--checkpoint",
        "kept",
        type=click.Path(dir_okay=False, path_type=Path),
        help="A checkpoint you kept: the log must still be the one that it was signed over.",
    )
    return where(option(KEY(UNSIGNED(with_terms))))


def trusted(data: Path, nats: str | None, given: tuple[str, ...]) -> list[Key]:
    """The given keys, or else those of the data directory, if the log is there. Raises `click.ClickException`."""
    if given or nats is not None or not (DataDirectory(data).notary_public_key).exists():
        return named(given)
    try:
        return known_keys(DataDirectory(data).notary_public_key)
    except (MalformedNote, OSError, ValueError) as error:
        raise click.ClickException(
            f"a notary's key in {DataDirectory(data).notary_public_key} cannot be read: {error}"
        ) from error


def named(given: tuple[str, ...]) -> list[Key]:
    """The keys in these texts. Raises `click.ClickException`."""
    try:
        return [parse_key(line) for line in given]
    except MalformedNote as error:
        raise click.ClickException(f"a notary's key cannot be read: {error}") from error


def read_kept(path: Path, keys: list[Key] | None) -> Checkpoint:
    """The checkpoint in a file, signed by one of the keys (None: by any). Raises `click.ClickException`."""
    try:
        checkpoint = read_checkpoint(path.read_bytes())
    except (OSError, ValueError, MalformedNote) as error:
        raise click.ClickException(f"{path} holds no checkpoint: {error}") from error
    if keys == []:
        raise click.ClickException(f"no notary's key is known, so {path} may be anybody's: {NAME_A_KEY}")
    if keys is not None and not checkpoint.is_signed_by(keys):
        raise click.ClickException(f"{path} is signed by none of the known keys")
    return checkpoint


def coverage(report: Report, terms: Terms) -> str:
    """For a person: how far checkpoints cover a log that is whole."""
    if report.checkpoints == 0 and terms.kept is None:
        return "there is no checkpoint of it: what came last is vouched for by nothing"
    agree = "checkpoint agrees" if report.checkpoints == 1 else "checkpoints agree"
    covered = f"{report.checkpoints:,} {agree} with it up to sequence {report.covered}"
    if terms.keys:
        return f"{covered} (signed by a known key)"
    return f"{covered}\nNOT PROVEN: who signed. Signatures were not checked: {NAME_A_KEY}"
