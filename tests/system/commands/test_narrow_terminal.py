"""Tables where there is little room: whatever a person may want to copy is there as a whole."""

from pathlib import Path

import pytest

from heirloom.cli.commands.admin_order import OrderTarget, show
from heirloom.cli.tables import print_incidents, print_rows

FAMILY = "il800hsq10JjMVDl9f6NTk"
INCIDENT = {
    "at": "2026-11-21T01:49:38.262703Z",
    "seq": 8,
    "type": "TokenReuseDetected",
    "reason": "reuse_detected",
    "family_id": FAMILY,
    "client_id": "web",
    "sub": "alice",
    "generation": 0,
    "current_generation": 2,
    "presented_by": "web",
}


@pytest.mark.parametrize(("terminal", "width", "lines"), [(True, 80, 9), (True, 132, 2), (False, 80, 2)])
def test_no_value_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool, width: int, lines: int
) -> None:
    """A row is a block of lines where the terminal is too narrow for it, and one line in any other case."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    print_incidents({"items": [INCIDENT], "cursor": None})
    shown = capsys.readouterr().out
    assert shown.count("\n") == lines
    assert FAMILY in shown and "2026-11-21 01:49:38.262Z" in shown and "generation 0 shown again" in shown


SECRET = "3q2-7wA9" * 5 + "xyz"
URL = f"nats://acme.role.billing-api:{SECRET}@broker.example.org:4222"
ADDED = {"seq": 8, "user": "acme.role.billing-api", "secret": SECRET, "inbox_prefix": "_INBOX.acme", "url": URL}


@pytest.mark.parametrize(("terminal", "width"), [(True, 40), (True, 80), (False, 40), (False, 80)])
def test_what_is_shown_once_can_be_copied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool, width: int
) -> None:
    """A credential is on one line, however narrow the terminal, which folds it itself; and in a pipe."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    show(OrderTarget(Path(), None, "acme", as_json=False), dict(ADDED))
    ordered = capsys.readouterr().out
    assert ordered.count("\n") == len(ADDED) and URL in ordered
    print_rows(("what", "name", "client secret"), [("client", "acme/web", SECRET)])
    assert SECRET in capsys.readouterr().out
