"""The broker's credentials: made once, for their owner alone; a role that is new gets its own."""

import json
import os
import stat
from pathlib import Path

import pytest

from events.files import exposed
from heirloom import credentials, nats_server
from heirloom.roles import ROLES, SHOWN
from heirloom.up import CannotStart, prepare
from service.keyring import KeyringError


def test_they_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    """Every role has another password."""
    made = credentials.ensure(tmp_path)
    assert credentials.ensure(tmp_path) == made == credentials.load(tmp_path)
    assert set(made.passwords) == set(SHOWN) and len(set(made.passwords.values())) == len(SHOWN)
    assert set(made.seeds) == set(ROLES) and len(set(made.seeds.values())) == len(ROLES)
    assert stat.S_IMODE((tmp_path / credentials.FILE).stat().st_mode) == 0o600


def test_a_new_role_gets_its_own(tmp_path: Path) -> None:
    """A file from before there was an edge's, and when our own processes had passwords: what was handed out stays
    good, and what our own had is void."""
    made = credentials.ensure(tmp_path)
    file = tmp_path / credentials.FILE
    before = json.loads(file.read_text())
    del before["passwords"]["edge"], before["seeds"]["edge"]
    before["passwords"]["service"] = "known to whoever listened"
    file.write_text(json.dumps(before))
    again = credentials.ensure(tmp_path)
    assert again.passwords["edge"] != made.passwords["edge"] and again.seeds["edge"] != made.seeds["edge"]
    assert {**again.passwords, "edge": ""} == {**made.passwords, "edge": ""}
    assert {**again.seeds, "edge": ""} == {**made.seeds, "edge": ""}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nobody_is_a_member_of_two_accounts_or_of_the_systems(tmp_path: Path) -> None:
    """Each role's user stands in the broker's configuration once."""
    text = nats_server.configuration("127.0.0.1:4222", tmp_path, credentials.ensure(tmp_path))
    assert all(text.count(f"user: {role},") == (role in SHOWN) for role in ROLES)
    assert all(text.count(f"nkey: {nkey},") == 1 for nkey in credentials.ensure(tmp_path).nkeys.values())
    assert not any(seed in text for seed in credentials.ensure(tmp_path).seeds.values())
    system = text[text.index("  SYS {") : text.index("  HEIRLOOM {")]
    assert "user" not in system


@pytest.mark.parametrize(
    ("mode", "owner", "me", "is_ours_alone"),
    [
        (0o600, 7, 7, True),
        (0o640, 7, 7, False),
        (0o604, 7, 7, False),
        (0o620, 7, 7, False),
        (0o600, 8, 7, False),
        (0o600, 0, 7, True),
        (0o440, 0, 7, True),
        (0o640, 0, 7, True),
        (0o660, 0, 7, False),
        (0o444, 0, 7, False),
        (0o600, 8, 0, True),
        (0o640, 0, 0, False),
    ],
)
def test_what_others_have_a_part_in_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, me: int, is_ours_alone: bool
) -> None:
    """Another owner, or open to others; root mounts secrets for a group (Kubernetes), and may use everybody's."""
    file = tmp_path / "secret"
    file.touch()
    monkeypatch.setattr(os, "geteuid", lambda: me)
    monkeypatch.setattr(
        Path, "stat", lambda _self: os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))
    )
    reason = exposed(file, "the file")
    assert (reason is None) == is_ours_alone
    assert reason is None or str(file) in reason


def test_a_directory_or_credentials_open_to_others_are_refused_by_name(tmp_path: Path) -> None:
    """With what to do. A new directory, where nothing of ours lies yet, is made private instead."""
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    prepare(data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    data.chmod(0o750)
    with pytest.raises(CannotStart, match=f"chmod 700 {data}"):
        prepare(data)
    data.chmod(0o700)
    credentials.ensure(data)
    (data / credentials.FILE).chmod(0o640)
    with pytest.raises(KeyringError, match=f"chmod 600 {data / credentials.FILE}"):
        credentials.load(data)
