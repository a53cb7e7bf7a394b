"""Before it serves, the service probes what strangers may do on the broker: it is reported, and nothing is done."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from nats.aio.msg import Msg

from events.aggregates import aggregate_names
from events.bus.connection import Connection
from events.log import stream
from heirloom.broker import credentials
from heirloom.broker.accounts import accounts
from heirloom.broker.roles import BESIDE, GUESSES, LOG_API, REACTOR, ROLES, WAITING, Role
from heirloom.exposure import doors
from heirloom.exposure.doors import OpenDoors, Untried, try_doors
from heirloom.exposure.probes import (
    AUDIT_QUERIES,
    FOR_EVERYBODY,
    MAX_NAMES,
    NAMED,
    NO_STREAM,
    Name,
    may,
    probes,
    some_names,
)
from projections.progress import Progress
from projections.queries.server import QUERIES, Audit
from tests.broker import Broker
from tests.system.service import HEIRLOOM, PATIENCE_SECONDS, Service, without_waiting


@contextmanager
def configured(directory: Path, text: str) -> Iterator[Broker]:
    """A broker with that configuration."""
    server = Broker(directory)
    server.configure(text)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def guest(permissions: str, *others: str) -> str:
    """A broker's configuration that lets in everybody with these permissions, and other users."""
    users = ", ".join((f"{{ user: guest, password: x, permissions: {permissions} }}", *others))
    return f"authorization {{ users: [ {users} ] }}\nno_auth_user: guest"


async def open_doors(directory: Path, configuration: str, *names: Name) -> str:
    """Probe a broker with that configuration; the error that names its open doors."""
    with configured(directory, configuration) as server, pytest.raises(OpenDoors) as found:
        await try_doors(server.url, None, names)
    return str(found.value)


def refusal_of_up(data: Path, url: str, *options: str) -> str:
    """Start `heirloom up` on that broker, which must fail; its standard error."""
    command: list[str | Path] = [HEIRLOOM, "up", "--data", data, "--nats", url, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    return without_waiting(done.stderr)


def test_an_open_broker_is_not_served_on(nats_server: Broker, tmp_path: Path) -> None:
    """Refused in one line that says what is open and what to do; nothing was started there."""
    refusal = refusal_of_up(tmp_path / "data", nats_server.url)
    assert refusal.count("\n") == 1
    for named in ("anybody without credentials may", "made-up name", "admin.>", "tokens.>", "$JS.API.>", "inbox"):
        assert named in refusal
    assert "heirloom broker-config" in refusal and "--insecure" in refusal
    assert not (tmp_path / "data" / "projector.log").exists(), "audit queries were answered there"


def test_a_broker_with_our_credentials_must_be_shut_to_strangers(tmp_path: Path) -> None:
    """The output of `broker-config` is accepted, and refused with one line more that makes everybody an operator."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    text = accounts(credentials.ensure(data))
    with configured(tmp_path / "open", text + "\nno_auth_user: operator") as server:
        refusal = refusal_of_up(data, server.url, "--no-notary")
    assert "anybody without credentials may publish to admin.>" in refusal
    assert not (data / "projector.log").exists(), "audit queries were answered there"
    with configured(tmp_path / "shut", text) as server:
        service = Service(data, "--nats", server.url, "--no-notary")
        service.start()
        assert service.stop() == 0


@pytest.mark.parametrize("reply", [doors.UNDELIVERED, ""])
async def test_probing_changes_nothing(
    connection: Connection, nats_server: Broker, monkeypatch: pytest.MonkeyPatch, reply: str
) -> None:
    """On an open broker with a log: nothing is stored, purged, paused, consumed or deleted.

    No probe is delivered; and a broker that delivered one would still find a malformed request in it.
    """
    monkeypatch.setattr(doors, "UNDELIVERED", reply)
    jetstream = connection.jetstream()
    beside = {BESIDE[0]: "heirloom.replica.*", BESIDE[1]: "$KV.heirloom-assertions.>", WAITING: "waiting.*"}
    for name, subject in (beside | {GUESSES: "guesses.*"}).items():
        await jetstream.add_stream(name=name, subjects=[subject])
        await jetstream.publish(subject[:-1] + "one", b"")
    await jetstream.publish("tokens.acme.client.web", b"one")
    await jetstream.add_consumer(aggregate_names.STREAM, durable_name=REACTOR)
    names = (*stream.SUBJECTS, *beside, GUESSES)
    before = [await jetstream.stream_info(name) for name in names], await jetstream.consumer_info("TOKENS", REACTOR)
    received: list[str] = []
    for begins in ("oauth.>", "admin.>", "tokens.>", "heirloom.>", "$JS.API.>", "$SYS.REQ.>"):

        async def receive(message: Msg) -> None:
            if message.data == doors.MALFORMED:
                received.append(message.subject)

        await connection.subscribe(begins, cb=receive)
    await connection.flush()
    with pytest.raises(OpenDoors, match=r"publish to tokens\.>, the log"):
        await try_doors(nats_server.url, None, [Name("acme", "web")])
    after = [await jetstream.stream_info(name) for name in names], await jetstream.consumer_info("TOKENS", REACTOR)
    assert [(info.config, info.state) for info in after[0]] == [(info.config, info.state) for info in before[0]]
    assert [info.state.messages for info in after[0]] == [1, 0, 1, 1, 1, 1]
    assert [info.state.consumer_count for info in after[0]] == [1, 0, 0, 0, 0, 0]
    consumers = [(info.config, info.num_pending, info.delivered, info.ack_floor) for info in (before[1], after[1])]
    assert consumers[0] == consumers[1]
    assert not reply or not received


async def test_our_own_broker_is_shut(service: Service) -> None:
    """Nobody connects without credentials or with wrong ones; roles and clients have their own rights only."""
    await try_doors(f"nats://{service.host}", credentials.load(service.data), [Name("acme", "web"), Name("globex")])


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
        ('subscribe: "oauth.> heirloom"', "subscribe to oauth.>"),
        ('subscribe: "oauth.*.client.*.token heirloom"', "subscribe to oauth.>"),
        ('subscribe: "oauth.acme.client.web.token heirloom"', "subscribe to oauth.>"),
        ('subscribe: "admin.> heirloom-admin"', "subscribe to admin.>"),
        ('subscribe: "audit.> heirloom-audit"', "subscribe to audit.>"),
        ('subscribe: "$SYS.REQ.USER.AUTH heirloom"', "subscribe to $SYS.REQ.USER.AUTH"),
        ('subscribe: "oauth.> *"', "subscribe to oauth.>"),
        ('subscribe: "tokens.> *"', "subscribe to tokens.>"),
        ('subscribe: "oauth.acme.>"', "subscribe to oauth.>"),
        ('subscribe: "tokens.acme.>"', "subscribe to tokens.>"),
        ('subscribe: "tokens.*.client.web"', "subscribe to tokens.>"),
        ('subscribe: "revoked.acme.*"', "subscribe to revoked.>"),
        ('subscribe: "_INBOX.acme.web.>"', "subscribe to another's inbox"),
        ('publish: "_INBOX.acme.web.>"', "publish to another's inbox"),
        ('publish: "admin.acme.>"', "publish to admin.>"),
        ('publish: "admin.acme.role.add"', "publish to admin.>"),
        ('publish: "admin.*.role.add"', "publish to admin.>"),
        ('publish: "audit.acme.families"', "publish to audit.>"),
        ('publish: "tokens.acme.>"', "publish to tokens.>, the log"),
        ('publish: "oauth.acme.client.web.issue"', "publish to oauth.>"),
        ('publish: "$JS.API.DIRECT.GET.TOKENS"', "publish to $JS.API.DIRECT.>"),
        ('publish: "$JS.API.DIRECT.GET.TOKENS.>"', "publish to $JS.API.DIRECT.>"),
        ('publish: "$JS.API.DIRECT.GET.TOKENS.tokens.acme.>"', "publish to $JS.API.DIRECT.>"),
        ('publish: "$JS.API.STREAM.DELETE.*"', "publish to $JS.API.STREAM.>"),
        ('publish: "$JS.API.STREAM.PURGE.TOKENS"', "publish to $JS.API.STREAM.>"),
        ('publish: "$JS.API.STREAM.MSG.DELETE.TOKENS"', "publish to $JS.API.STREAM.>"),
        ('publish: "$JS.API.STREAM.MSG.GET.GUESSES"', "publish to $JS.API.STREAM.>"),
        ('publish: "$JS.API.STREAM.SNAPSHOT.CHECKPOINTS"', "publish to $JS.API.STREAM.>"),
        ('publish: "$JS.API.STREAM.LEADER.STEPDOWN.*"', "publish to $JS.API.STREAM.>"),
        ('publish: "$JS.API.META.LEADER.STEPDOWN"', "publish to $JS.API.>"),
        ('publish: "$JS.API.CONSUMER.CREATE.TOKENS"', "publish to $JS.API.CONSUMER.>"),
        ('publish: "$JS.API.CONSUMER.CREATE.TOKENS.*.tokens.acme.>"', "publish to $JS.API.CONSUMER.>"),
        ('publish: "$JS.API.CONSUMER.DURABLE.CREATE.DEVICES.*"', "publish to $JS.API.CONSUMER.>"),
        ('publish: "$JS.API.CONSUMER.MSG.NEXT.TOKENS.reactor"', "publish to $JS.API.CONSUMER.>"),
        ('publish: "$JS.API.CONSUMER.PAUSE.TOKENS.reactor"', "publish to $JS.API.CONSUMER.>"),
        ('publish: "$JS.API.CONSUMER.DELETE.TOKENS.*"', "publish to $JS.API.CONSUMER.>"),
    ],
)
async def test_one_right_too_many_is_found(tmp_path: Path, rights: str, named: str) -> None:
    """A guest (`no_auth_user`) with one right, perhaps to a single tenant's subjects."""
    kind, subject = rights.split(": ")
    other = "subscribe" if kind == "publish" else "publish"
    permissions = f'{{ {kind}: [{subject}], {other}: {{ deny: [">"] }} }}'
    found = await open_doors(tmp_path, guest(permissions), Name("acme", "web"))
    assert f"anybody without credentials may {named}" in found
    assert found.count(" may ") == 1


def test_each_subject_of_the_role_table_is_tried() -> None:
    """Both ways, also for a role that is added later: an older list beside the table had gaps.

    Subjects that everybody may publish to are not tried; subscribing to them is.
    """
    orders = ("new.*.orders.>", f"{LOG_API}.NEW.ORDER")
    table = ROLES | {"new": Role("NEW", publish=orders, subscribe=("news",))}
    tried = {way: [probe.subject for probe in probes(table) if probe.publishes is way] for way in (True, False)}
    for name, role in table.items():
        for pattern in (*role.publish, *role.subscribe, f"_INBOX.role.{name}.>"):
            untried = pattern == FOR_EVERYBODY or ".STREAM.DELETE." in pattern  # the latter with a name of nobody's
            assert untried or any(may((pattern,), subject) for subject in tried[True]), pattern
            assert pattern in tried[False] and any(may((pattern,), subject) for subject in tried[True] + tried[False])
    assert "$JS.API.NEW.ORDER" in tried[True], "the subject's name within the log's own account"
    assert "oauth.doors.public.doors" not in tried[True]
    assert not any("*" in subject or ">" in subject for subject in tried[True])


async def test_a_right_to_subscribe_is_found_beside_a_denied_queue(tmp_path: Path) -> None:
    """The broker words both refusals alike: one of a queue says nothing about plain subscriptions."""
    permissions = '{ publish: { deny: [">"] }, subscribe: ["oauth.doors.edge.token", "oauth.doors.edge.token other"] }'
    assert "may subscribe to oauth.>" in await open_doors(tmp_path, guest(permissions))


def test_orders_that_need_no_valid_body_are_tried_without_a_real_name() -> None:
    """They would delete something, or move a leader, whatever the body is."""
    obeyed = ("STREAM.DELETE.", "STEPDOWN.", "PEER.REMOVE.", "CANCEL_MOVE.", "RESET.", "UNPIN.")
    ordered = [probe.subject for probe in probes(names=[Name("acme", "web")]) if probe.publishes]
    for subject in ordered:
        if (order := next((order for order in obeyed if order in subject), None)) is not None:
            assert subject.partition(order)[2].startswith(NO_STREAM), subject
        if ".CONSUMER.DELETE." in subject:
            assert subject.endswith(f".{NAMED}"), subject


def test_a_bounded_number_of_names_is_tried() -> None:
    """With many tenants one client each, with few tenants more."""
    one = {"acme": [f"c{number}" for number in range(9)]}
    assert some_names({}) == []
    assert some_names(one) == [Name("acme", f"c{number}") for number in range(MAX_NAMES)]
    assert some_names(one | {"globex": []}) == [*some_names(one)[: MAX_NAMES // 2], Name("globex", NAMED)]
    many = some_names({f"t{number}": ["a", "b"] for number in range(9)})
    assert many == [Name(f"t{number}", "a") for number in range(MAX_NAMES)]


def test_every_audit_query_is_tried() -> None:
    """The list equals the audit's own table, which it must not import."""
    audit = Audit(Progress(), AsyncMock(), {"what_if": AsyncMock()})
    assert sorted((*QUERIES, *audit._handlers)) == sorted(AUDIT_QUERIES)


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
def test_a_pattern_must_cover_the_whole_subject(pattern: str, subject: str, is_about: bool) -> None:
    assert may((pattern,), subject) == is_about


def test_a_right_to_one_tenants_orders_is_found_once_the_tenant_is_in_the_log(tmp_path: Path) -> None:
    """A tenant that was created later is tried at the next start."""
    permissions = '{ publish: ["admin.acme.>"], subscribe: { deny: [">"] } }'
    with configured(tmp_path / "broker", guest(permissions, "{ user: service, password: y }")) as server:
        url = server.url.replace("//", "//service:y@")
        service = Service(tmp_path / "data", "--nats", url, "--no-notary")
        service.start()
        assert service.stop() == 0
        refusal = refusal_of_up(tmp_path / "data", url, "--no-notary")
    assert "anybody without credentials may publish to admin.>" in refusal


async def test_denying_the_named_subjects_is_not_enough(tmp_path: Path) -> None:
    """A guest with five subjects denied could still read the audit and forge messages between replicas."""
    publish = '["tokens.>", "admin.>", "$JS.API.>", "oauth.*.client.>", "_INBOX.>"]'
    subscribe = '["tokens.>", "admin.>", "oauth.>", "$JS.API.>", "_INBOX.>"]'
    permissions = f"{{ publish: {{ deny: {publish} }}, subscribe: {{ deny: {subscribe} }} }}"
    found = await open_doors(tmp_path, guest(permissions))
    for way in ("publish", "subscribe"):
        for subject in ("audit.>", "heirloom.>", "$KV.heirloom-assertions.*", "$SYS.REQ.USER.AUTH", "$SRV.>", "_R_.>"):
            assert f"{way} to {subject}" in found
    for shut in ("tokens.>", "admin.>", "$JS.API.>", "another's inbox"):
        assert f" to {shut}" not in found


@asynccontextmanager
async def answering(*lines: bytes) -> AsyncIterator[tuple[str, list[None]]]:
    """A broker that replies to each connection with the next line, then with the last; yields its URL and its calls."""
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


async def test_an_unclear_reply_does_not_count_as_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full broker may accept the same connection later: tried again, then refused with the reason."""
    monkeypatch.setattr(doors, "PAUSE_SECONDS", 0)
    async with answering(FULL) as (url, times):
        with pytest.raises(Untried, match="lets in anybody without credentials: maximum connections exceeded"):
            await try_doors(url, None)
    assert len(times) >= doors.MAX_ATTEMPTS
    async with answering(FULL, FULL, FULL, SHUT) as (url, _times):
        await try_doors(url, None)


async def test_a_server_that_is_down_does_not_count_as_shut(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may come back open: alone it is refused; beside servers that are shut it is accepted, as in a cluster."""
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


async def test_a_broker_that_requires_a_password_is_shut(tmp_path: Path) -> None:
    """Neither no credentials nor wrong ones are accepted."""
    with configured(tmp_path, "authorization { user: service, password: secret }") as server:
        await try_doors(server.url.replace("//", "//service:secret@"), None)


@pytest.mark.parametrize("role", ["operator", "auditor", "edge", "resource"])
async def test_a_role_with_too_many_rights_is_found(tmp_path: Path, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed configuration that lets this role write into the log."""
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
                found[stranger.who] = await doors._open_to(stranger, probes())
    assert found.pop(f"the role {role}").startswith(
        f"the role {role} may publish to tokens.>, the log, publish to tokens.check"
    )
    assert set(found.values()) == {""}


def test_insecure_prints_a_warning(nats_server: Broker, tmp_path: Path) -> None:
    """On standard error, with the broker's address and what is not checked."""
    service = Service(tmp_path / "data", "--nats", nats_server.url, "--insecure", "--no-notary")
    service.start()
    try:
        assert f"--insecure: nobody tries what strangers may do on the broker at {service.host}" in service.said()
        assert json.loads((service.data / "up.json").read_text())["ours"] is False
    finally:
        service.stop()
