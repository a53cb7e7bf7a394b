"""Files with data of the log are private, under any umask, and never written through a link."""

import asyncio
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from events.files import create_private, new_file, open_plain, read_plain, replace
from heirloom.cli.main import main
from projections.digest import digest_of
from projections.read_model import ReadModel
from tests.broker import Broker, broker
from tests.notary.commands.test_proofs import write
from tests.projections.logs import LogMaker, eventful_log

PRECIOUS = b"somebody else's"


@pytest.fixture(scope="module")
def vouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with a log of a few commits and a checkpoint of it."""
    directory = tmp_path_factory.mktemp("private")
    made = LogMaker()
    made.open("f1")
    made.rotate("f1")
    with broker(directory / "broker") as server:
        asyncio.run(write(server.url, directory, made))
        yield server


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """A umask that lets everybody read."""
    before = os.umask(0)
    yield
    os.umask(before)


WRITERS = {
    "prove": ("prove", "--seq", "1"),
    "export": ("export",),
    "export csv": ("export", "--format", "csv"),
    "replay": ("replay",),
}


def audit(server: Broker, *arguments: str) -> Result:
    """Run `heirloom audit` in this process."""
    return CliRunner().invoke(main, ["audit", *arguments, "--nats", server.url])


@pytest.mark.parametrize("what", WRITERS)
def test_written_files_are_private(what: str, vouched: Broker, tmp_path: Path) -> None:
    """Whatever the umask."""
    done = audit(vouched, *WRITERS[what], "--into", str(tmp_path / "file"))
    assert done.exit_code == 0, done.output
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {"file": "0o600"}


@pytest.mark.parametrize("what", ["export", "export csv"])
def test_resumed_files_are_private(what: str, vouched: Broker, tmp_path: Path) -> None:
    """Also a file that existed and was open to others."""
    file = tmp_path / "file"
    for content in (None, b""):
        if content is not None:
            file.write_bytes(content)
        else:
            assert audit(vouched, *WRITERS[what], "--into", str(file)).exit_code == 0
        file.chmod(0o664)
        done = audit(vouched, *WRITERS[what], "--resume", "--into", str(file))
        assert done.exit_code == 0, done.output
        assert oct(file.stat().st_mode & 0o777) == "0o600"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_not_extended(vouched: Broker, tmp_path: Path) -> None:
    """Its owner could open it again."""
    file = tmp_path / "file"
    file.touch(mode=0o600)
    os.chown(file, 1234, -1)
    refused = audit(vouched, "export", "--resume", "--into", str(file))
    assert refused.exit_code == 1 and "belongs to another user" in refused.output
    assert file.read_bytes() == b""


@pytest.mark.parametrize("target", ["victim", "nowhere"])
@pytest.mark.parametrize("what", WRITERS)
def test_no_command_writes_through_a_link(what: str, target: str, vouched: Broker, tmp_path: Path) -> None:
    """Neither to an existing file nor to a new one."""
    (tmp_path / "victim").write_bytes(PRECIOUS)
    (tmp_path / "link").symlink_to(target)
    for resume in ((), ("--resume",)) if what != "prove" else ((),):
        refused = audit(vouched, *WRITERS[what], *resume, "--into", str(tmp_path / "link"))
        assert refused.exit_code == 1, refused.output
        assert "Traceback" not in refused.output
        assert isinstance(refused.exception, SystemExit)
    assert (tmp_path / "victim").read_bytes() == PRECIOUS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "victim"]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """An existing one is kept or replaced; links are not followed."""
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(PRECIOUS)
    link.symlink_to(victim)
    create_private(link, b"new")
    assert link.read_bytes() == PRECIOUS
    replace(link, b"new")
    assert (victim.read_bytes(), link.read_bytes(), link.is_symlink()) == (PRECIOUS, b"new", False)
    with pytest.raises(RuntimeError), new_file(tmp_path / "broken") as file:
        file.write(b"half")
        raise RuntimeError
    with pytest.raises(FileExistsError), new_file(victim) as file:
        file.write(b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "victim"]


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    """A FIFO is not waited for; no more than the limit is read."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * 11)
    for path in (tmp_path / "fifo", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match=r".*"):
            open_plain(path)
    with pytest.raises(OSError, match=r".*"):
        read_plain(tmp_path / "large", 10)


REPLACED = {
    "a view": "DROP VIEW readable_families; CREATE VIEW readable_families AS SELECT 'nobody' AS sub",
    "a new view": "CREATE VIEW readable_lies AS SELECT 'nobody' AS sub",
    "a trigger": "CREATE TRIGGER forget AFTER INSERT ON families BEGIN DELETE FROM families; END",
    "an index": "CREATE INDEX odd ON families (sub)",
}


@pytest.mark.parametrize("what", REPLACED)
def test_the_digest_covers_the_schema(what: str, tmp_path: Path) -> None:
    """A replaced view can mislead as well as a changed row."""
    digests = []
    for name in ("one", "two"):
        model = ReadModel(tmp_path / name)
        model.apply(eventful_log())
        model.close()
        with closing(sqlite3.connect(tmp_path / name)) as db:
            digests.append(digest_of(db).sha256)
    assert digests[0] == digests[1]
    with closing(sqlite3.connect(tmp_path / "two", isolation_level=None)) as db:
        db.executescript(REPLACED[what])
        assert digest_of(db).sha256 != digests[0]
