"""`heirloom audit digest`: the digest of a read model, by which two builds of it can be compared."""

import sqlite3
from contextlib import closing
from pathlib import Path

import click

from heirloom.cli.options import DATA
from heirloom.cli.progress_bar import progress
from heirloom.cli.tables import print_json
from heirloom.data_directory import DataDirectory
from projections.digest import digest_of, rows
from projections.read_model import open_for_queries


@click.command()
@DATA
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for pipes.")
def digest(data: Path, file: Path | None, as_json: bool) -> None:
    """The digest of a read model.

    Of the service's own, or of the FILE that `replay` made.

    Two read models of the same log and the same sequence have the same digest, whoever built them, and however often
    that was interrupted.
    """
    path = file or DataDirectory(data).read_model
    if not path.is_file():
        raise click.ClickException(f"there is no read model at {path}: make one with `heirloom audit replay --into`")
    try:
        with closing(open_for_queries(path)) as db, progress("reading", rows(db)) as advance:
            found = digest_of(db, advance)
    except sqlite3.DatabaseError as error:
        raise click.ClickException(f"{path} is no read model that can be read here: {error}") from error
    if as_json:
        print_json(found._asdict())
    else:
        click.echo(f"sha256:{found.sha256} as of sequence {found.seq:,} ({found.rows:,} rows)")
