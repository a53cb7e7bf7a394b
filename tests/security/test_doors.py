"""The service tries a broker's doors before it serves: what strangers may do there is found, named and not done."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from events import bus, stream, subjects
from heirloom import credentials, doors
from heirloom.broker_accounts import accounts
from heirloom.doors import OpenDoors, Untried, try_doors
from heirloom.probes import FOR_EVERYBODY, may, probes
from heirloom.roles import BESIDE, ROLES, WAITING, Role
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


def test_a_broker_that_knows_our_credentials_is_served_on_only_when_shut(tmp_path: Path) -> None:
    """What `broker-config` writes, and the same with one line more, by which everybody is an operator."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    text = accounts(credentials.ensure(data))
    with configured(tmp_path / "open", text + "\nno_auth_user: operator") as server:
        command: list[str | Path] = [HEIRLOOM, "up", "--data", data, "--nats", server.url, "--no-notary"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "anybody without credentials may publish to admin.>" in done.stderr
    assert not (data / "projector.log").exists(), "audit queries were answered there"
    with configured(tmp_path / "shut", text) as server:
        service = Service(data, "--nats", server.url, "--no-notary")
        service.start()
        assert service.stop() == 0


async def test_nothing_is_stored_by_trying(connection: bus.Connection, nats_server: Broker) -> None:
    """On a broker with a log that lets anybody write it; what the service keeps beside the log is neither purged."""
    jetstream, beside = (
        connection.jetstream(),
        {BESIDE[0]: "heirloom.replica.*", BESIDE[1]: "$KV.heirloom-assertions.>"},
    )
    for name, subject in (beside | {WAITING: "waiting.*"}).items():
        await jetstream.add_stream(name=name, subjects=[subject])
        await jetstream.publish(subject[:-1] + "one", b"")
    await jetstream.add_consumer(subjects.STREAM, durable_name="doors")
    before = [(await jetstream.stream_info(name)).config for name in (*stream.SUBJECTS, *beside, WAITING)]
    with pytest.raises(OpenDoors, match=r"publish to tokens\.>, the log"):
        await try_doors(nats_server.url, None)
    for name in stream.SUBJECTS:
        assert await stream.last_sequence(connection, name) == 0
    after = [await jetstream.stream_info(name) for name in (*stream.SUBJECTS, *beside, WAITING)]
    assert [info.config for info in after] == before
    assert [(info.state.messages, info.state.last_seq) for info in after[2:]] == [(1, 1)] * 3
    assert [info.state.consumer_count for info in after] == [1, 0, 0, 0, 0]


async def test_a_service_of_ours_has_its_doors_shut(service: Service) -> None:
    """Nobody is let in without credentials or with wrong ones, and roles and clients may do what is theirs alone."""
    await try_doors(f"nats://{service.host}", credentials.load(service.data))


@pytest.mark.parametrize(
    ("rights", "named"),
    [
        ('publish: "tokens.>"', "publish to tokens.>, the log"),
        ('publish: "tokens.*.family.>"', "publish to tokens.>, the log"),
        ('publish: "tokens.checkpoint"', "publish to tokens.checkpoint"),
        ('publish: "admin.>"', "publish to admin.>"),
        ('publish: "$JS.API.CONSUMER.CREATE.>"', "publish to $JS.API.CONSUMER.>, which makes consumers"),
        ('publish: "_INBOX.>"', "publish to another's inbox"),
        ('subscribe: "_INBOX.>"', "subscribe to another's inbox"),
        ('subscribe: "oauth.>"', "subscribe to oauth.>"),
        ('subscribe: "tokens.*.family.>"', "subscribe to tokens.>"),
        ('subscribe: "audit.>"', "subscribe to audit.>"),
        ('subscribe: "$SYS._INBOX.>"', "subscribe to $SYS._INBOX.>"),
        ('publish: "heirloom.appended.>"', "publish to heirloom.>"),
        ('publish: "oauth.*.edge.>"', "publish to oauth.>"),
        ('publish: "$KV.>"', "publish to $KV.heirloom-assertions.*"),
        ('publish: "$SYS.REQ.USER.AUTH"', "publish to $SYS.REQ.USER.AUTH"),
        ('publish: "$SRV.>"', "publish to $SRV.>"),
        ('publish: "_R_.>"', "publish to _R_.>"),
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


def test_each_subject_of_the_role_table_is_tried() -> None:
    """Both ways, also of a role that somebody adds: a list beside the table was narrower than what the service trusts.

    What anybody may ask may be asked; another's question is still not for everybody's ears.
    """
    table = ROLES | {"new": Role("NEW", publish=("new.*.orders.>",), subscribe=("news",))}
    tried = {way: [probe.subject for probe in probes(table) if probe.publishes is way] for way in (True, False)}
    for name, role in table.items():
        for pattern in (*role.publish, *role.subscribe, f"_INBOX.role.{name}.>"):
            assert pattern == FOR_EVERYBODY or any(may((pattern,), subject) for subject in tried[True]), pattern
            assert pattern in tried[False] and any(may((pattern,), subject) for subject in tried[True] + tried[False])
    assert "oauth.doors.public.doors" not in tried[True]
    assert not any("*" in subject or ">" in subject for subject in tried[True])


@pytest.mark.parametrize(
    ("pattern", "subject", "is_about"),
    [
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a.>", True),
        ("a.>", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        ("a.*.c", "a.b.d", False),
    ],
)
def test_what_is_a_right_is_not_tried(pattern: str, subject: str, is_about: bool) -> None:
    """A pattern is about all of a subject or not."""
    assert may((pattern,), subject) == is_about


async def test_denying_what_a_refusal_names_is_not_enough(tmp_path: Path) -> None:
    """`no_auth_user` with all but the denies of the first five subjects: it read the audit, and forged the news."""
    publish = '["tokens.>", "admin.>", "$JS.API.>", "oauth.*.client.>", "_INBOX.>"]'
    subscribe = '["tokens.>", "admin.>", "oauth.>", "$JS.API.>", "_INBOX.>"]'
    permissions = f"{{ publish: {{ deny: {publish} }}, subscribe: {{ deny: {subscribe} }} }}"
    text = f"authorization {{ users: [ {{ user: guest, password: x, permissions: {permissions} }} ] }}"
    with configured(tmp_path, text + "\nno_auth_user: guest") as server, pytest.raises(OpenDoors) as found:
        await try_doors(server.url, None)
    for way in ("publish", "subscribe"):
        for subject in ("audit.>", "heirloom.>", "$KV.heirloom-assertions.*", "$SYS.REQ.USER.AUTH", "$SRV.>", "_R_.>"):
            assert f"{way} to {subject}" in str(found.value)
    for shut in ("tokens.>", "admin.>", "$JS.API.>", "another's inbox"):
        assert f" to {shut}" not in str(found.value)


@asynccontextmanager
async def answering(*lines: bytes) -> AsyncIterator[tuple[str, list[None]]]:
    """A broker that answers each connection with the next of these lines, and then with the last: where, how often."""
    waiting, times = list(lines), list[None]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        times.append(None)
        writer.write(b'INFO {"server_id":"x","version":"2.15.1","max_payload":1048576,"auth_required":true}\r\n')
        await reader.readline()
        await reader.readline()
        writer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", times
    finally:
        server.close()


FULL, SHUT = b"-ERR 'maximum connections exceeded'\r\n", b"-ERR 'Authorization Violation'\r\n"


async def test_an_unclear_answer_is_not_taken_for_a_shut_door(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is full now lets somebody in later: tried again, then not served on, and the reason is told."""
    monkeypatch.setattr(doors, "PAUSE_SECONDS", 0)
    async with answering(FULL) as (url, times):
        with pytest.raises(Untried, match="lets in anybody without credentials: maximum connections exceeded"):
            await try_doors(url, None)
    assert len(times) >= doors.ATTEMPTS
    async with answering(FULL, FULL, FULL, SHUT) as (url, _times):
        await try_doors(url, None)


async def test_a_server_that_is_down_is_not_shut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may come back open: alone it is not served on; beside others that are shut it is, as a cluster must."""
    monkeypatch.setattr(doors, "PAUSE_SECONDS", 0)
    with configured(tmp_path / "down", "authorization { user: service, password: secret }") as down:
        await try_doors(down.url, None)
    with pytest.raises(Untried, match=r"no server answers there.*--insecure"):
        await try_doors(down.url, None)
    with configured(tmp_path / "up", "authorization { user: service, password: secret }") as up:
        await try_doors(f"{down.url},{up.url}", None)
    assert [record.message for record in caplog.records if "not tried" in record.message]
    with configured(tmp_path / "open", "") as up, pytest.raises(OpenDoors):
        await try_doors(f"{down.url},{up.url}", None)


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
    assert found.pop(f"the role {role}").startswith(
        f"the role {role} may publish to tokens.>, the log, publish to tokens.check"
    )
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
