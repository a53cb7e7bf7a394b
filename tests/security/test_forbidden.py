"""Every subject that a role may not publish or subscribe to is tried; the log stays the same, byte for byte.

The subjects come from the role table itself: each role tries what any other role may do.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import nats
import pytest
from nats.aio.client import Client

from events.aggregates.commit import VERSION, Commit
from events.aggregates.role import RoleAdded, RoleState, codec
from events.log.consumer_reader import read
from events.log.stream import last_sequence
from heirloom.broker import credentials
from heirloom.broker.own_connection import connect_as
from heirloom.broker.roles import ASKING, CLIENTS_ASK, LOG_ACCOUNT, OWN, ROLES, SHOWN, answering, inbox
from service.keys.mac_tokens import new_id
from service.registry.broker_accounts import ROLE_ACCOUNTS
from service.registry.named_role import NamedRole, below
from tests.security.conftest import SEED
from tests.system.service import Service, running

CLIENT = "client"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Its own service: the tests leave junk among the checkpoints, which `verify` would name for ever."""
    with running(tmp_path_factory.mktemp("forbidden") / "data", "--replicas", "2", "--notary", seed=SEED) as service:
        yield service


DELIVER_INTO_THE_LOG = {
    "stream_name": "TOKENS",
    "config": {"name": "evil", "ack_policy": "none", "deliver_subject": "tokens.acme.family.evil.live"},
}
ALWAYS_TRIED = (
    "tokens.acme.family.evil.live", "tokens.acme.family.evil.revoked", "tokens.acme.tenant", "tokens.checkpoint",
    "revoked.acme.evil", "heirloom.polled", "heirloom.applied.evil", "heirloom.replica.evil", "$KV.evil.evil",
    "$JS.API.INFO", "$JS.API.STREAM.CREATE.EVIL", "$JS.API.STREAM.UPDATE.TOKENS", "$JS.API.STREAM.DELETE.TOKENS",
    "$JS.API.STREAM.PURGE.TOKENS", "$JS.API.STREAM.MSG.DELETE.TOKENS", "$JS.API.STREAM.DELETE.CHECKPOINTS",
    "$JS.API.CONSUMER.CREATE.TOKENS", "$JS.API.CONSUMER.CREATE.TOKENS.evil",
    "$JS.API.CONSUMER.DURABLE.CREATE.TOKENS.evil",
    "heirloom.device.acme.tv.evil", "heirloom.device.>", "heirloom.guess.acme.login.evil",
    *(
        f"{api}.{what}"
        for api in ("$JS.API", "$JS.HEIRLOOM.API") for stream in ("DEVICES", "GUESSES")
        for what in (
            f"STREAM.MSG.GET.{stream}", f"DIRECT.GET.{stream}", f"DIRECT.GET.{stream}.heirloom.device.acme.tv.evil",
            f"CONSUMER.CREATE.{stream}", f"CONSUMER.CREATE.{stream}.evil", f"CONSUMER.MSG.NEXT.{stream}.evil",
            f"STREAM.INFO.{stream}", f"STREAM.SNAPSHOT.{stream}", f"STREAM.RESTORE.{stream}",
            f"STREAM.PURGE.{stream}", f"STREAM.MSG.DELETE.{stream}", f"STREAM.DELETE.{stream}",
        )
    ),
    "$JS.HEIRLOOM.API.CONSUMER.CREATE.TOKENS.evil", "$JS.ACK.TOKENS.reactor.1.1.1.1.1",
    "$SYS.REQ.USER.AUTH", "$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.HEIRLOOM.CONNZ", "$SYS.REQ.CLAIMS.UPDATE",
    "oauth.acme.client.other.token", "oauth.globex.client.web.issue", "oauth.globex.public.evil.x",
    "oauth.globex.public.jwks",
    "_INBOX.acme.other.evil", "_INBOX.acme.web", "_INBOX.role.operator.evil", "_INBOX.role.projector.evil",
    "_INBOX.role.service.evil", "_INBOX.role.evil", "_INBOX.>", "_INBOX.*.>", "_INBOX.role.>", "_R_.evil", "_R_.>",
    "$SYS._INBOX.evil", "$SYS._INBOX.>", "$JS.>", "$JS.SNAPSHOT.RESTORE.TOKENS.evil", "$SRV.PING", "evil",
)  # fmt: skip


class Rights(NamedTuple):
    """The subjects to publish and subscribe to, as NATS patterns; none of those that are `denied`."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    denied: tuple[str, ...] = ()

    def may_publish(self, subject: str) -> bool:
        return _matches(self.publish, subject) and not _matches(self.denied, subject)

    def may_subscribe(self, subject: str) -> bool:
        return _matches(self.subscribe, subject)


RIGHTS = {
    name: Rights(
        role.publish,
        (*role.subscribe, *(below(inbox(name)) if name in SHOWN else [f"{inbox(name)}.>"])),
        role.denied,
    )
    for name, role in ROLES.items()
} | {CLIENT: Rights(("oauth.acme.client.web.>", "oauth.acme.public.>"), tuple(below("_INBOX.acme.web")))}


def _matches(patterns: tuple[str, ...], subject: str) -> bool:
    return any(
        re.fullmatch(re.escape(pattern).replace(r"\*", "[^.]+").replace(">", ".+"), subject) for pattern in patterns
    )


def _overlap(one: str, other: str) -> bool:
    """Whether any subject matches both patterns."""
    for mine, others in zip(one.split("."), other.split("."), strict=False):
        if ">" in (mine, others):
            return True
        if mine != others and "*" not in (mine, others):
            return False
    return one.count(".") == other.count(".")


STRANGERS = (
    *CLIENTS_ASK,
    *(subject for role in ROLES.values() if role.account != LOG_ACCOUNT for subject in role.publish),
)
APPENDING = {"service", "backup"}
KEEPER = "keeper"
"""`heirloom up`, which has everybody's seeds. The broker's replies to it are about the broker, and no commits."""
ANSWERING = [
    name
    for name, role in OWN.items()
    if any(_overlap(listens, asked) for listens in role.subscribe for asked in STRANGERS)
]
"""Our own roles that receive messages from strangers."""


def _one_of(pattern: str) -> str:
    return pattern.replace("*", "acme", 1).replace("*", "web").replace(">", "evil")


TRIED = tuple(
    dict.fromkeys(
        [
            *ALWAYS_TRIED,
            *(_one_of(pattern) for rights in RIGHTS.values() for pattern in (*rights.publish, *rights.subscribe)),
            *(_one_of(pattern) for pattern in CLIENTS_ASK),
        ]
    )
)


CONCRETE = tuple(subject for subject in TRIED if not {"*", ">"} & set(subject.split(".")))


def test_roles_that_receive_from_strangers_publish_only_replies() -> None:
    """So that no fault in our parsers can append: no subject, consumer or JetStream reply of theirs leads there."""
    assert set(ANSWERING) == {"audit", "audit-auditors", *map(answering, ASKING)}
    for name in ANSWERING:
        outside = OWN[name].account != LOG_ACCOUNT  # no connection of the service waits for a reply there
        assert OWN[name].publish == (("_INBOX.>",) if outside else (f"{inbox('inquiry')}.>",))
    for name, role in OWN.items():
        appends = any(_overlap(subject, "tokens.>") for subject in role.publish)
        delivers = any(subject.startswith("$JS.") for subject in role.publish)
        assert not (appends or delivers) or name not in ANSWERING


def test_an_inbox_belongs_to_one_role() -> None:
    """Replies carry tokens: no role may subscribe to another's."""
    for name, role in ROLES.items():
        assert not any(_overlap(subject, "_INBOX.>") for subject in role.subscribe)
        others = {publisher for publisher, rights in OWN.items() if f"{inbox(name)}.>" in rights.publish}
        assert others <= {name} | ({"audit"} if name == "inquiry" else set())


def test_only_the_log_connection_reads_waiting_devices() -> None:
    """They hold a device's seed and the family of its user code: backups and auditors must not reach them."""
    api = ("STREAM.MSG.GET.DEVICES", "STREAM.SNAPSHOT.DEVICES", "DIRECT.GET.DEVICES", "DIRECT.GET.DEVICES.>")
    consuming = ("CONSUMER.CREATE.DEVICES", "CONSUMER.CREATE.DEVICES.>", "CONSUMER.MSG.NEXT.DEVICES.*")
    reads = [f"$JS.API.{what}" for what in (*api, *consuming)]
    may = {
        (name, read)
        for read in reads
        for name, role in ROLES.items()
        if any(_overlap(read, allowed) for allowed in role.publish) and read not in role.denied
    }
    assert may == {("service", "$JS.API.STREAM.MSG.GET.DEVICES")}
    hears = {name for name, role in ROLES.items() if any(_overlap("heirloom.device.>", s) for s in role.subscribe)}
    assert hears == {"service"}


def test_no_reader_shares_an_account_with_those_who_hear_a_feed() -> None:
    """The broker publishes what is read wherever the reader says, where others would take it for their feed."""
    named = [NamedRole("acme", "x", kind) for kind in ROLE_ACCOUNTS]
    hearing = {role.account for role in SHOWN.values() if role.subscribe}
    assert {ROLE_ACCOUNTS[role.role] for role in named if len(role.subscribe()) > len(below(role.inbox))} == hearing
    published = [subject for role in ROLES.values() if role.account in hearing for subject in role.publish]
    published += [subject for role in named if ROLE_ACCOUNTS[role.role] in hearing for subject in role.publish()]
    assert [subject for subject in published if subject.startswith("$JS.")] == []


def test_in_the_logs_account_only_appending_roles_read() -> None:
    """The broker publishes replies under any subject there, also the log's: a stored commit could be stored again."""
    reads = {
        name
        for name, role in ROLES.items()
        if role.account == LOG_ACCOUNT and re.search(r"\.(GET|CONSUMER)\.", " ".join(role.publish))
    }
    assert reads == APPENDING and all(_matches(ROLES[name].publish, "tokens.acme.tenant") for name in reads)


class Intruder:
    """A connection with a role's credentials; `refused` holds the broker's errors."""

    def __init__(self) -> None:
        self.connection = Client()
        self.refused: list[str] = []

    async def heard(self, error: Exception) -> None:
        """Record an error: the broker's only reply to a forbidden subject."""
        self.refused.append(str(error))

    def refusals(self, of: str) -> set[str]:
        """The subjects of the refusals, in lower case."""
        found = (re.search(rf'permissions violation for {of} to "([^"]+)"', said, re.I) for said in self.refused)
        return {match[1] for match in found if match}


@asynccontextmanager
async def _as(service: Service, role: str) -> AsyncIterator[Intruder]:
    known = credentials.load(service.data)
    intruder = Intruder()
    if role in OWN:
        intruder.connection = await connect_as(role, "intruder", f"nats://{service.host}", known)
        intruder.connection._error_cb = intruder.heard
    else:
        url = known.client_url("acme", "web", service.host) if role == CLIENT else known.url(role, service.host)
        prefix = "_INBOX.acme.web" if role == CLIENT else inbox(role)
        await intruder.connection.connect(url, error_cb=intruder.heard, inbox_prefix=prefix)
    try:
        yield intruder
    finally:
        await intruder.connection.close()


async def _log(service: Service) -> tuple[str, Any]:
    """A digest of all messages of the log, and its stream's configuration."""
    connection = await service.own()
    digest = hashlib.sha256()
    async for batch in read(connection, until=1 << 60):
        for stored in batch.messages:
            digest.update(b"%d %s %s" % (stored.seq, stored.subject.encode(), stored.body))
    answer = await connection.request("$JS.API.STREAM.INFO.TOKENS")
    await connection.close()
    return digest.hexdigest(), json.loads(answer.data)["config"]


@pytest.mark.parametrize("role", RIGHTS)
async def test_every_forbidden_subject_is_refused(service: Service, role: str) -> None:
    """Each by name, for publishing and for subscribing; the log does not change."""
    before = await _log(service)
    may_not_publish = {subject for subject in CONCRETE if not RIGHTS[role].may_publish(subject)}
    may_not_listen = {subject for subject in (*TRIED, ">", "*.>") if not RIGHTS[role].may_subscribe(subject)}
    assert len(may_not_publish) > 20 and len(may_not_listen) > 20
    async with _as(service, role) as intruder:
        for subject in may_not_publish:
            await intruder.connection.publish(subject, json.dumps(DELIVER_INTO_THE_LOG).encode())
        for subject in may_not_listen:
            await intruder.connection.subscribe(subject)
        await _until(lambda: len(intruder.refused) >= len(may_not_publish) + len(may_not_listen))
        # nats-py lower-cases the broker's errors
        assert intruder.refusals("subscription") == {subject.lower() for subject in may_not_listen}
        assert intruder.refusals("publish") == {subject.lower() for subject in may_not_publish}
    assert await _log(service) == before


@pytest.mark.parametrize("role", sorted(RIGHTS.keys() - APPENDING - {KEEPER}))
async def test_no_reply_becomes_an_event(service: Service, role: str) -> None:
    """A reply subject of the log, or of another request, stays within the caller's account."""
    before = await _log(service)
    targets = (
        "tokens.acme.family.evil.live",
        "admin.acme.client.disable",
        "oauth.acme.client.other.issue",
        "tokens.checkpoint",
    )
    async with _as(service, role) as intruder:
        for subject in filter(RIGHTS[role].may_publish, CONCRETE):
            for target in targets:
                await intruder.connection.publish(subject, b'{"sub":"evil","client_id":"other"}', reply=target)
        await intruder.connection.flush()
        assert not intruder.refused
        if role not in OWN:
            await _answered(intruder.connection, role)
    assert await _log(service) == before


@pytest.mark.parametrize("role", ["notary", "projector", "auditor"])
async def test_no_stored_commit_is_stored_again(service: Service, role: str) -> None:
    """A family's first commit expects no predecessor: stored again, it would revive an ended family."""
    async with service.client() as web:
        issued = await web.issue("alice", "read offline_access")
        family = await web.refresh(issued["refresh_token"])
        assert "error" in await web.refresh(issued["refresh_token"]) and not await web.active(family["refresh_token"])
    before = await _log(service)
    connection = await service.own()
    last = await last_sequence(connection)
    async for batch in read(connection, until=last):
        commits = [stored for stored in batch.messages if ".family." in stored.subject]
    await connection.close()
    async with _as(service, role) as intruder:
        for stored in commits[-3:]:
            live = stored.subject.replace(".revoked", ".live")
            request = json.dumps({"seq": stored.seq}).encode()
            await intruder.connection.publish("$JS.HEIRLOOM.API.DIRECT.GET.TOKENS", request, reply=live)
        await intruder.connection.flush()
        assert not intruder.refused
    assert await _log(service) == before


async def test_the_notary_cannot_publish_a_commit(service: Service) -> None:
    """Neither directly nor through the broker's replies: a commit that adds an operator has no effect."""
    before = await _log(service)
    added, state, name = RoleAdded("operator", "x"), RoleState("operator", "x"), "tokens.acme.role.evil"
    body = codec.encode(Commit(VERSION, new_id(), datetime.now(UTC), "operator", None, 0, (added,), state, name))
    async with _as(service, "notary") as intruder:
        stored = json.loads((await intruder.connection.request("tokens.checkpoint", body)).data)
        request = json.dumps({"seq": stored["seq"]}).encode()
        for evil in (name, "tokens.acme.family.evil.live"):
            for subject in ("DIRECT.GET.CHECKPOINTS", "STREAM.MSG.GET.CHECKPOINTS"):
                await intruder.connection.publish(f"$JS.HEIRLOOM.API.{subject}", request, reply=evil)
        await intruder.connection.flush()
        assert not intruder.refused
    assert await _log(service) == before


async def _answered(connection: Client, role: str) -> None:
    """Wait until earlier requests have been answered: until a later one of the same kind is."""
    question = {"operator": "admin.acme.evil.put", "auditor": "audit.acme.position"}.get(role, "oauth.acme.public.jwks")
    try:
        await connection.request(question, b"{}", timeout=3)
    except nats.errors.NoRespondersError:
        assert role == "operator"
    await asyncio.sleep(0.2)  # a reply would take that long to reach the log


async def _until(condition: Any) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.02)
