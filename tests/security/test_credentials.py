"""The broker's credentials: made once, for their owner alone; a role that is new gets its own."""

import json
import stat
from pathlib import Path

from heirloom import credentials, nats_server
from heirloom.roles import ROLES


def test_they_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    """Every role has another password."""
    made = credentials.ensure(tmp_path)
    assert credentials.ensure(tmp_path) == made == credentials.load(tmp_path)
    assert set(made.passwords) == set(ROLES) and len(set(made.passwords.values())) == len(ROLES)
    assert stat.S_IMODE((tmp_path / credentials.FILE).stat().st_mode) == 0o600


def test_a_new_role_gets_its_own(tmp_path: Path) -> None:
    """A file from before there was a notary's: what was handed out stays good."""
    made = credentials.ensure(tmp_path)
    file = tmp_path / credentials.FILE
    before = json.loads(file.read_text())
    del before["passwords"]["notary"]
    file.write_text(json.dumps(before))
    again = credentials.ensure(tmp_path)
    assert again.passwords["notary"] != made.passwords["notary"]
    assert {**again.passwords, "notary": ""} == {**made.passwords, "notary": ""}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nobody_is_a_member_of_two_accounts_or_of_the_systems(tmp_path: Path) -> None:
    """Each role's user stands in the broker's configuration once."""
    text = nats_server.configuration("127.0.0.1:4222", tmp_path, credentials.ensure(tmp_path))
    assert all(text.count(f"user: {role},") == 1 for role in ROLES)
    system = text[text.index("  SYS {") : text.index("  HEIRLOOM {")]
    assert "user" not in system
