"""Every command, given what no person would type: one clear line, the documented status, and no traceback."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from heirloom.cli.main import main

HOSTILE = {
    "NUL": "a\0b",
    "no UTF-8": "a\udcffb",
    "an escape": "a\x1b[2J\x9b",
    "a line": "a\nb",
    "a path without end": "x" * 5000,
    "a number without end": "9" * 5000,
    "a port without end": "1:" + "9" * 5000,
    "a URL with such a port": "nats://1:" + "9" * 5000,
    "a setting without end": "name=" + "9" * 5000,
    "a deep setting": "name=" + "[" * 100_000,
    "TOML with a number without end": "long",
    "a negative number": "-1",
    "nothing": "",
    "a device": "/dev/null",
    "a directory": "/",
    "deep JSON": "deep",
    "no text": "binary",
}
SELDOM = {"console", "demo"}
"""These would serve, or wait for a browser."""
BEFORE: dict[tuple[str, ...], list[str]] = {("up",): ["--nats", "nats://127.0.0.1:1"]}
"""Where it does not serve."""


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Of the whole tree, by what one types."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from commands(found, (*path, name))
        elif found is not None and name not in SELDOM:
            yield (*path, name)


def command_at(path: tuple[str, ...]) -> click.Command:
    """The command one types so."""
    found: click.Command | None = main
    for name in path:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)
    assert found is not None
    return found


@pytest.fixture
def hostile_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with files that are none of ours, to be named; nothing is served there."""
    (tmp_path / "deep").write_bytes(b'{"seq":' + b"[" * 200_000)
    (tmp_path / "long").write_text("name = " + "9" * 5000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0" * 100)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEIRLOOM_TENANT", "acme")
    return tmp_path


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_no_argument_ends_in_a_traceback(path: tuple[str, ...], hostile_files: Path) -> None:
    """In the place of each argument and of each option that takes a value."""
    command, failures = command_at(path), []
    arguments = [param for param in command.params if isinstance(param, click.Argument)]
    options = [param for param in command.params if isinstance(param, click.Option) and not param.is_flag]
    for what, value in HOSTILE.items():
        tried = [[value for _ in arguments]]
        tried += [[option.opts[0], value, *("x" for _ in arguments)] for option in options]
        for words in tried:
            done = CliRunner().invoke(main, [*path, *BEFORE.get(path, ()), *words])
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                failures.append((what, words[:1], repr(done.exception)[:200]))
            elif "\x1b[2J" in done.output or "\x9b" in done.output or "Traceback" in done.output:
                failures.append((what, words[:1], done.output[:200]))
    assert failures == []
