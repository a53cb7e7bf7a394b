"""The broker's credentials: made once, readable only by their owner; a new role gets its own."""

import json
import os
import re
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nkeys
import pytest

from events.files import exposed
from heirloom.broker import credentials, nats_server
from heirloom.broker.accounts import accounts
from heirloom.broker.roles import ROLES, SHOWN
from heirloom.data_directory import CREDENTIALS, READ_MODEL, DataDirectory
from heirloom.supervisor.preparation import MAX_PATH_BYTES, CannotStart, prepare
from service.keys.keyring import KeyringError


def test_they_are_made_once_for_their_owner_alone(tmp_path: Path) -> None:
    """Every role has its own password and seed."""
    made = credentials.ensure(tmp_path)
    assert credentials.ensure(tmp_path) == made == credentials.load(tmp_path)
    assert set(made.passwords) == set(SHOWN) and len(set(made.passwords.values())) == len(SHOWN)
    assert set(made.seeds) == set(ROLES) and len(set(made.seeds.values())) == len(ROLES)
    assert stat.S_IMODE((tmp_path / CREDENTIALS).stat().st_mode) == 0o600


def test_a_new_role_gets_its_own(tmp_path: Path) -> None:
    """After an upgrade: passwords that were handed out stay valid, those of our own processes do not."""
    made = credentials.ensure(tmp_path)
    file = tmp_path / CREDENTIALS
    before = json.loads(file.read_text())
    del before["passwords"]["edge"], before["seeds"]["edge"]
    before["passwords"]["service"] = "known_to_whoever_had_listened-00"
    file.write_text(json.dumps(before))
    again = credentials.ensure(tmp_path)
    assert again.passwords["edge"] != made.passwords["edge"] and again.seeds["edge"] != made.seeds["edge"]
    assert {**again.passwords, "edge": ""} == {**made.passwords, "edge": ""}
    assert {**again.seeds, "edge": ""} == {**made.seeds, "edge": ""}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_no_role_is_in_two_accounts_or_in_the_system_account(tmp_path: Path) -> None:
    """Each role's user appears once in the broker's configuration; seeds do not appear."""
    text = nats_server.configuration("127.0.0.1:4222", tmp_path, credentials.ensure(tmp_path))
    assert all(text.count(f"user: {role},") == (role in SHOWN) for role in ROLES)
    known = credentials.ensure(tmp_path)
    assert all(text.count(f"nkey: {known.nkey(role)},") == 1 for role in known.seeds)
    assert not any(seed in text for seed in credentials.ensure(tmp_path).seeds.values())
    system = text[text.index("  SYS {") : text.index("  HEIRLOOM {")]
    assert "user" not in system


def configured(known: credentials.Credentials, directory: Path) -> str:
    return nats_server.configuration("127.0.0.1:4222", directory, known)


def structure(text: str) -> str:
    """The configuration without the content of its strings, and without its keys."""
    return re.sub(r"\b[AU][A-Z2-7]{55}\b", "KEY", re.sub(r'"[^"\\\n]*"', '""', text))


def altered(document: dict[str, Any], byte: bytes) -> Iterator[tuple[str, bytes]]:
    """Pairs of a field and a file with that byte in the field's name or value: in the middle, and at the end."""
    mark = "@@"
    for path in (("passwords", "operator"), ("seeds", "service"), ("client_key",), ("issuer_seed",)):
        for name in (False, True):
            changed = json.loads(json.dumps(document))
            within = changed if len(path) == 1 else changed[path[0]]
            value = within.pop(path[-1])
            old = path[-1] if name else value
            for new in (old[:5] + mark + old[6:], old + mark):
                put = {new: value} if name else {path[-1]: new}
                altered = within | put if len(path) == 1 else changed | {path[0]: within | put}
                yield path[0], json.dumps(altered).encode().replace(mark.encode(), byte)


def test_no_byte_in_the_credentials_changes_the_configuration(tmp_path: Path) -> None:
    """A stranger's `bus.json` is refused, or the broker's configuration has the same structure."""
    made = credentials.ensure(tmp_path)
    document = json.loads((tmp_path / CREDENTIALS).read_text())
    path, conf = tmp_path / "of a stranger", tmp_path / "nats.conf"
    plain = configured(made, tmp_path)
    before = structure(plain)
    taken: set[tuple[str, int]] = set()
    for byte in range(256):
        escaped = {json.dumps(chr(byte))[1:-1].encode()} if byte < 0x80 else set()
        for written in {bytes([byte])} | escaped:
            for field, content in altered(document, written):
                try:
                    known = credentials._complete(credentials.decode(content, path))  # completed as before use
                except KeyringError:
                    continue
                if known == made or (field, byte) in taken:
                    continue
                taken.add((field, byte))
                text = configured(known, tmp_path)
                assert structure(text) == before, content
                if text != plain:
                    conf.write_text(text)
                    subprocess.run([nats_server.binary(), "-t", "-c", conf], check=True, capture_output=True)
    assert {"passwords", "client_key"} <= {field for field, _ in taken}, "some bytes are valid in a password"


INJECTED = 'x" } ] } }\npid_file: "/tmp/a_file_of_the_victim"\nAGAIN { a { users: [ { user: a, password: "x'
STRANGE: dict[str, dict[str, Any]] = {
    "configuration for a password": {"passwords": {"operator": INJECTED}},
    "a password that is too short": {"passwords": {"operator": "a"}},
    "a seed that is none": {"seeds": {"service": "SUAPG2ZP"}},
    "an account's seed for a role's": {"seeds": {"service": credentials._seed(nkeys.PREFIX_BYTE_ACCOUNT)}},
    "a role's seed for the issuer's": {"issuer_seed": credentials._seed(nkeys.PREFIX_BYTE_USER)},
    "an empty seed": {"issuer_seed": ""},
    "a key of another size": {"client_key": "AAAA"},
    "a key with more in it": {"client_key": "A" * 43 + '="'},
    "an unknown field": {"pid_file": "/tmp/a_file_of_the_victim"},
}


@pytest.mark.parametrize("kind", STRANGE)
def test_malformed_credentials_are_refused(kind: str, tmp_path: Path) -> None:
    """The error says what is wrong, without the value."""
    credentials.ensure(tmp_path)
    document = json.loads((tmp_path / CREDENTIALS).read_text())
    for field, value in STRANGE[kind].items():
        document[field] = document[field] | value if isinstance(value, dict) else value
    with pytest.raises(KeyringError, match="hand out new URLs") as refused:
        credentials.decode(json.dumps(document).encode(), tmp_path / "of a stranger")
    assert "victim" not in str(refused.value) and document["client_key"] not in str(refused.value)


def test_two_roles_with_one_seed_are_refused(tmp_path: Path) -> None:
    """The broker would not start, and one role could act as the other."""
    made = credentials.ensure(tmp_path)
    document = json.loads((tmp_path / CREDENTIALS).read_text())
    document["seeds"]["audit"] = made.seeds["service"]
    with pytest.raises(KeyringError, match="two roles"):
        credentials.decode(json.dumps(document).encode(), tmp_path)


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
def test_a_file_that_others_can_change_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, owner: int, me: int, is_ours_alone: bool
) -> None:
    """Another owner's, or open to others; root mounts secrets for a group (Kubernetes), and may use every file."""
    file = tmp_path / "secret"
    file.touch()
    monkeypatch.setattr(os, "geteuid", lambda: me)
    monkeypatch.setattr(
        Path, "stat", lambda _self: os.stat_result((stat.S_IFREG | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0))
    )
    reason = exposed(file, "the file")
    assert (reason is None) == is_ours_alone
    assert reason is None or str(file) in reason


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o775])
def test_an_empty_directory_is_made_private(tmp_path: Path, mode: int) -> None:
    """It holds nothing that anybody else could need."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    prepare(DataDirectory(data))
    assert stat.S_IMODE(data.stat().st_mode) == 0o700 and (data / "keyring.json").exists()


@pytest.mark.parametrize(
    ("mode", "content", "me", "why"),
    [
        (0o1777, None, None, "is open to others"),
        (0o1777, "theirs", None, "is open to others"),
        (0o755, "theirs", None, "is open to others"),
        (0o700, "theirs", None, "is not empty, and holds no keyring"),
        (0o755, None, 12345, "belongs to another user"),
        (0o700, None, 12345, "belongs to another user"),
    ],
)
def test_a_directory_of_others_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, content: str | None, me: int | None, why: str
) -> None:
    """Refused before anything is written there, and its mode stays."""
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(mode)
    if content is not None:
        (data / content).touch()
    if me is not None:
        if os.geteuid() == 0:
            os.chown(data, 54321, -1)  # root's own files are accepted for every user
        monkeypatch.setattr(os, "geteuid", lambda: me)
    with pytest.raises(CannotStart, match=f"{data} {why}"):
        prepare(DataDirectory(data))
    assert stat.S_IMODE(data.stat().st_mode) == mode
    assert [path.name for path in data.iterdir()] == ([] if content is None else [content])


def test_a_path_that_is_too_long_for_the_read_model_is_refused(tmp_path: Path) -> None:
    """SQLite cannot open a file below it, and `up` would wait for the read model for ever."""
    data = tmp_path.joinpath(*["x" * 200] * 3)
    with pytest.raises(CannotStart, match="too long"):
        prepare(DataDirectory(data))
    assert not (tmp_path / ("x" * 200)).exists()
    longest = tmp_path / ("x" * 200)
    longest /= "y" * (MAX_PATH_BYTES - len(str(longest)) - 1)
    prepare(DataDirectory(longest))
    with sqlite3.connect(longest / f"{READ_MODEL}.new") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (a)")
    connection.close()


def test_credentials_open_to_others_are_refused_by_name(tmp_path: Path) -> None:
    """The error names the command that mends it; also for a data directory that was opened later."""
    data = tmp_path / "data"
    prepare(DataDirectory(data))
    data.chmod(0o750)
    with pytest.raises(CannotStart, match=f"chmod 700 {data}"):
        prepare(DataDirectory(data))
    data.chmod(0o700)
    credentials.ensure(data)
    (data / CREDENTIALS).chmod(0o640)
    with pytest.raises(KeyringError, match=f"chmod 600 {data / CREDENTIALS}"):
        credentials.load(data)


def test_a_role_of_another_version_is_ignored(tmp_path: Path) -> None:
    """One that an older version had: it gets no user, and the other roles are as they were."""
    made = credentials.ensure(tmp_path)
    other = {"password": "a" * 32, "seed": credentials._seed(nkeys.PREFIX_BYTE_USER)}
    passwords, seeds = made.passwords | {"older": other["password"]}, made.seeds | {"older": other["seed"]}
    content = msgspec.json.encode(msgspec.structs.replace(made, passwords=passwords, seeds=seeds))
    known = credentials.decode(content, tmp_path / "bus.json")
    assert accounts(known) == accounts(made)
