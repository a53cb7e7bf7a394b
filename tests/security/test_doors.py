"""The service tries a broker's doors before it serves: what strangers may do there is found, named and not done."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events import bus, stream
from heirloom import credentials, doors
from heirloom.broker_accounts import accounts
from heirloom.doors import OpenDoors, try_doors
from heirloom.roles import ROLES
from tests.broker import Broker
from tests.system.service import HEIRLOOM, PATIENCE_SECONDS, Service


@contextmanager
def configured(directory: Path, text: str) -> Iterator[Broker]:
    """A broker with that in its configuration."""
    server = Broker(directory)
    server.configure(text)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def test_an_open_broker_is_not_served_on(nats_server: Broker, tmp_path: Path) -> None:
    """Refused in one line that says what is open and what to do; nothing was begun there."""
    command: list[str | Path] = [HEIRLOOM, "up", "--data", tmp_path / "data", "--nats", nats_server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    for named in ("anybody without credentials may", "made-up name", "admin.>", "tokens.>", "$JS.API.>", "inbox"):
        assert named in done.stderr
    assert "heirloom broker-config" in done.stderr and "--insecure" in done.stderr
    assert not (tmp_path / "data" / "projector.log").exists(), "audit queries were answered there"


async def test_nothing_is_stored_by_trying(connection: bus.Connection, nats_server: Broker) -> None:
    """On a broker with a log that lets anybody write it."""
    with pytest.raises(OpenDoors, match=r"publish to tokens\.>, the log"):
        await try_doors(nats_server.url, None)
    for name in stream.SUBJECTS:
        assert await stream.last_sequence(connection, name) == 0


async def test_a_service_of_ours_has_its_doors_shut(service: Service) -> None:
    """Nobody is let in without credentials or with wrong ones, and roles and clients may do what is theirs alone."""
    await try_doors(f"nats://{service.host}", credentials.load(service.data))


@pytest.mark.parametrize(
    ("rights", "named"),
    [
        ('publish: "tokens.>"', "publish to tokens.>, the log"),
        ('publish: "tokens.*.family.>"', "publish to tokens.>, the log"),
        ('publish: "tokens.checkpoint"', "publish checkpoints"),
        ('publish: "admin.>"', "publish to admin.>"),
        ('publish: "$JS.API.CONSUMER.CREATE.>"', "make consumers"),
        ('publish: "_INBOX.>"', "publish to another's inbox"),
        ('subscribe: "_INBOX.>"', "subscribe to another's inbox"),
        ('subscribe: "oauth.>"', "subscribe to oauth.>"),
    ],
)
async def test_one_open_door_is_enough(tmp_path: Path, rights: str, named: str) -> None:
    """Whoever comes without credentials has one right too many (`no_auth_user`)."""
    kind, subject = rights.split(": ")
    other = "subscribe" if kind == "publish" else "publish"
    permissions = f'{{ {kind}: [{subject}], {other}: {{ deny: [">"] }} }}'
    text = f"authorization {{ users: [ {{ user: guest, password: x, permissions: {permissions} }} ] }}"
    with configured(tmp_path, text + "\nno_auth_user: guest") as server, pytest.raises(OpenDoors) as found:
        await try_doors(server.url, None)
    assert f"anybody without credentials may {named}" in str(found.value)
    assert str(found.value).count(" may ") == 1


async def test_a_broker_that_asks_for_a_password_is_shut(tmp_path: Path) -> None:
    """Without credentials, and with wrong ones."""
    with configured(tmp_path, "authorization { user: service, password: secret }") as server:
        await try_doors(server.url.replace("//", "//service:secret@"), None)


@pytest.mark.parametrize("role", ["operator", "auditor", "edge", "resource"])
async def test_a_role_with_too_many_rights_is_found(tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has changed what `broker-config` wrote: that role may write into the log."""
    known = credentials.ensure(tmp_path)
    wider = ROLES[role]._replace(publish=(*ROLES[role].publish, "tokens.>"))
    with monkeypatch.context() as changed:
        changed.setitem(ROLES, role, wider)
        text = accounts(known)
    with configured(tmp_path / "broker", text) as server:
        host = server.url.removeprefix("nats://")
        found = {}
        for stranger in doors._strangers("nats", host, known):
            if stranger.who.startswith("the role "):
                found[stranger.who] = await doors._open_to(stranger)
    assert found.pop(f"the role {role}").startswith(f"the role {role} may publish to tokens.>, the log, publish check")
    assert set(found.values()) == {""}


def test_insecure_is_said_out_loud(nats_server: Broker, tmp_path: Path) -> None:
    """A warning on standard error, which names the broker and what may be done there."""
    service = Service(tmp_path / "data", "--nats", nats_server.url, "--insecure", "--no-notary")
    service.start()
    try:
        assert f"--insecure: nobody tries what strangers may do on the broker at {service.host}" in service.said()
        assert json.loads((service.data / "up.json").read_text())["ours"] is False
    finally:
        service.stop()
