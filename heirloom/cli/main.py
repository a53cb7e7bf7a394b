"""`heirloom`: the commands of contract §7."""

import errno
import os
import signal
import sys
from typing import Any

import click

from events.visible_text import visible
from heirloom import __version__
from heirloom.cli.lazy_group import LazyGroup

COMMANDS = {
    "up": "heirloom.cli.commands.up",
    "url": "heirloom.cli.commands.url",
    "apply": "heirloom.cli.commands.apply",
    "admin": "heirloom.cli.commands.admin",
    "audit": "heirloom.cli.audit.group",
    "console": "heirloom.cli.commands.console",
    "broker-config": "heirloom.cli.commands.broker_config",
    "keyring": "heirloom.cli.commands.keyring",
    "backup": "heirloom.cli.commands.backup",
    "restore": "heirloom.cli.commands.backup",
    "asyncapi": "heirloom.cli.commands.asyncapi",
    "demo": "heirloom.cli.commands.demo",
}


class Commands(LazyGroup):
    """The top-level group. A command that cannot write its output reports that, and exits with 1."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run as click does, with errors of the output reported."""
        if sys.stdout is None:
            click.echo("Error: cannot write the answer: standard output is closed", err=True)
            sys.exit(1)
        if sys.argv[1:2] == ["up"]:  # its imports take a while
            for signum in (signal.SIGTERM, signal.SIGINT):
                signal.signal(signum, _leave)
        try:
            try:
                return super().main(*arguments, **options)
            finally:
                sys.stdout.flush()
        except OSError as error:
            if not _cannot_be_written():
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes the final flush
            if error.errno != errno.EPIPE:  # a reader that has left need not be told
                click.echo(f"Error: cannot write the answer: {error.strerror}", err=True)
            sys.exit(1)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does. No name or path contains a NUL."""
        if any("\0" in argument for argument in args):
            raise click.UsageError("an argument holds a NUL character", ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Invoke as click does, and make errors safe to print: they may repeat what others chose.

        A file that a command cannot use, without an error of its own, is named.
        """
        try:
            return super().invoke(ctx)
        except UnicodeEncodeError as error:
            raise click.ClickException("an argument, or a file, holds bytes that are no text in UTF-8") from error
        except OSError as error:
            if not isinstance(error.filename, str | os.PathLike):
                raise  # the standard streams have no name
            raise click.ClickException(visible(f"{error.filename}: {error.strerror}")) from error
        except click.ClickException as error:
            error.message = visible(error.message, keep="\n")  # type: ignore[misc]  # what click shows
            raise


def _leave(_signum: int, _frame: object) -> None:
    """Exit: nothing has begun yet."""
    sys.exit(0)


def _cannot_be_written() -> bool:
    """Whether standard output failed: then it fails again; otherwise one more line does no harm."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


@click.group(cls=Commands, modules=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="heirloom")
def main() -> None:
    """OAuth 2.0 tokens whose every step is an event, and whose theft ends their family."""
