"""A foreign reply subject gets no reply, nobody else receives one, and nobody loses a reply."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import nats.errors
import pytest
from nats.aio.msg import Msg

from events.bus.connection import Connection
from events.log.stream import last_sequence
from heirloom.broker.accounts import MAX_SUBSCRIPTIONS
from heirloom.broker.roles import LOG_API, OWN, ROLES
from tests.system.service import Caller, Service

WILDCARDS = ("_INBOX.>", "_INBOX.*.*.*.*", "_INBOX.acme.web.>", ">", "*")
FOREIGN = ("_INBOX.acme.web.others", "_INBOX.globex.web.others", "tokens.acme.tenant")


def test_each_reader_has_an_account_of_its_own() -> None:
    """nats-server loses replies across accounts below a wildcard: an auditor's request could cost the projector one."""
    for name, role in OWN.items():
        if any(subject.startswith(LOG_API) for subject in role.publish):
            assert [other for other, its in ROLES.items() if its.account == role.account] == [name]


async def test_a_message_without_a_reply_subject_is_no_request(service: Service) -> None:
    """The broker's own replies are such messages, and a reader of the log can direct them to any subject."""
    log = await service.own()
    async with service.client() as web:
        before = await last_sequence(log)
        await web.connection.publish("oauth.acme.client.web.issue", b'{"sub":"alice","scope":"read"}')
        await web.ask("token", {"grant_type": "refresh_token", "refresh_token": "hrt_x"})  # handled after it
        assert await last_sequence(log) == before
    await log.close()


@contextlib.asynccontextmanager
async def _listening(caller: Caller, inbox: str) -> AsyncIterator[list[str]]:
    received: list[str] = []

    async def take(message: Msg) -> None:
        received.append(message.subject)

    await caller.connection.subscribe(f"{inbox}.*", cb=take)
    await caller.connection.subscribe(f"{inbox}.*.*", cb=take)
    await caller.connection.flush()
    yield received
    await caller.connection.flush()


@pytest.mark.parametrize("wildcard", WILDCARDS)
async def test_a_reply_subject_with_wildcards_costs_nobody_a_reply(service: Service, wildcard: str) -> None:
    """nats-server 2.15.1 would drop all replies that wait below it if the request crossed accounts."""
    async with service.client() as web, service.client("other") as other:
        for _ in range(10):
            asked = [asyncio.create_task(web.ask("introspect", {"token": "hrt_x"})) for _ in range(5)]
            for _ in range(5):
                await other.connection.publish("oauth.acme.client.other.token", b"{}", reply=wildcard)
            assert [answer["active"] for answer in await asyncio.gather(*asked)] == [False] * 5


@pytest.mark.parametrize("reply", [*WILDCARDS, *FOREIGN, ""])
async def test_a_reply_to_a_foreign_subject_reaches_nobody(service: Service, reply: str) -> None:
    """Neither its owner nor the caller; the caller's next request is answered."""
    async with service.client() as web, service.client("other") as other:
        async with _listening(web, "_INBOX.acme.web") as webs, _listening(other, "_INBOX.acme.other") as others:
            await other.connection.publish("oauth.acme.client.other.introspect", b"{}", reply=reply)
            assert not (await other.ask("introspect", {"token": "hrt_x"}))["active"]
            await web.connection.flush()
        assert not webs and len(others) == 1


@pytest.mark.parametrize(
    ("role", "subject", "theirs"),
    [
        ("auditor", "audit.acme.position", "_INBOX.role.inquiry.x"),
        ("operator", "admin.acme.role.list", "_INBOX.role.service.x"),
        ("edge", "oauth.acme.edge.introspect", "_INBOX.role.resource.x"),
    ],
)
async def test_a_role_gets_replies_below_its_own_inbox_only(
    service: Service, role: str, subject: str, theirs: str
) -> None:
    """As a client does."""
    async with service.role(role) as caller, _listening(caller, f"_INBOX.role.{role}") as received:
        for reply in (theirs, *WILDCARDS):
            await caller.connection.publish(subject, b"{}", reply=reply)
        await caller.connection.request(subject, b"{}", timeout=10)
        assert len(received) == 1


async def test_subscriptions_are_bounded(service: Service) -> None:
    """A message to one subject costs as much as it has subscribers, and a subject as much as it has parts."""
    async with service.client("other") as other:
        await other.connection.subscribe("_INBOX.acme.other." + ".".join("a" * 1000))
        assert isinstance(other.connection, Connection)
        await asyncio.wait_for(other.connection.denied.wait(), 10)
        with contextlib.suppress(nats.errors.Error):
            for _ in range(MAX_SUBSCRIPTIONS + 1):
                await other.connection.subscribe("_INBOX.acme.other.same")
            await other.connection.flush()
        async with asyncio.timeout(10):
            while not other.connection.stats["reconnects"] and other.connection.is_connected:
                await asyncio.sleep(0.02)
