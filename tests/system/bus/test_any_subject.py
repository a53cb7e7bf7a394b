"""Every request gets a reply, whatever bytes its subject holds and whatever its headers are (CONTRACT §2)."""

import asyncio
from typing import Any

import pytest
from nats.errors import BadSubjectError

from events.bus import connection as bus
from tests.system.service import Caller, Service

ODD = [bytes([byte]) for byte in (*range(1, 0x21), *range(0x7F, 0x100)) if byte not in b"\t\n\r "]
"""Bytes that the broker accepts in a subject and no name of ours holds; after a CR it may drop the rest."""


async def _refused(caller: Caller, subject: bytes, headers: dict[str, str] | None = None) -> Any:
    answer = await caller.ask(bus.as_text(subject), b"{}", headers=headers)
    assert answer["error"] == "invalid_request"
    return answer["error_description"]


async def test_a_request_on_any_subject_gets_a_reply(service: Service) -> None:
    """From OAuth endpoints, audit and administration; such a byte once ended a replica's connection (RFC 6749 §5.2)."""
    async with (
        service.client() as web,
        service.role("operator") as operator,
        service.role("auditor") as auditor,
        service.role("resource") as anyone,
    ):
        asked: list[tuple[Caller, bytes]] = []
        for byte in ODD:
            asked += [(anyone, b"oauth." + name + b".public.jwks") for name in (byte, b"a" + byte + b"3" + byte + b"b")]
            asked.append((anyone, b"oauth.a" + byte + b"1" + byte + b"tokens.public.metadata"))
            asked.append((auditor, b"audit.a" + byte + b"b.position"))
            asked.append((operator, b"admin.a" + byte + b"b.tenant.put"))
        for begin in range(0, len(asked), 64):
            told = await asyncio.gather(*(_refused(caller, subject) for caller, subject in asked[begin : begin + 64]))
            assert set(told) == {"the subject may hold visible ASCII characters alone"}
        assert "access_token" in await web.issue()


async def test_a_request_on_the_longest_subject_gets_a_reply(service: Service) -> None:
    """The broker allows long lines for proofs in CONNECT, so a subject may be longer than any that we publish to."""
    async with service.client() as web, service.role("resource") as anyone, service.role("auditor") as auditor:
        for caller, subject in ((anyone, b"oauth.%b.public.jwks"), (auditor, b"audit.%b.families")):
            connection = caller.connection
            inbox = connection.new_inbox()
            reply = await connection.subscribe(inbox, max_msgs=1)
            await connection.flush()
            assert connection._transport is not None
            connection._transport.write(b"PUB %b %b 2\r\n{}\r\n" % (subject % (b"a" * 16_000), inbox.encode()))
            assert (await reply.next_msg(10)).data.startswith(b"{")
        assert "access_token" in await web.issue()


@pytest.mark.parametrize(
    "headers", [{"A": "x" * 8192}, {f"a{number}": "b" for number in range(65)}], ids=["long", "many"]
)
async def test_long_headers_are_refused_before_parsing(service: Service, headers: dict[str, str]) -> None:
    """More than 8 KiB or 64 headers are `invalid_request` on every subject that strangers may publish to."""
    async with (
        service.client() as web,
        service.role("operator") as operator,
        service.role("auditor") as auditor,
        service.role("edge") as edge,
    ):
        for caller, subject in (
            (Caller(web.connection, ""), b"oauth.acme.client.web.token"),
            (Caller(web.connection, ""), b"oauth.acme.public.jwks"),
            (edge, b"oauth.acme.edge.introspect"),
            (auditor, b"audit.acme.position"),
            (operator, b"admin.acme.tenant.put"),
        ):
            assert "headers" in await _refused(caller, subject, headers)
        assert "access_token" in await web.issue()


async def test_a_reply_subject_of_any_bytes_gets_a_reply(service: Service) -> None:
    """On exactly these bytes; only subjects that the broker could read as another one are not published to."""
    async with service.client() as web:
        replies = await web.connection.subscribe("_INBOX.acme.web.any.*")
        for byte in ODD:
            inbox = bus.as_text(b"_INBOX.acme.web.any.x" + byte + b"y")
            await web.connection.publish("oauth.acme.public.jwks", b"", inbox)
            reply = await replies.next_msg(10)
            assert (reply.subject, b'"keys"' in reply.data) == (inbox, True)
        with pytest.raises(BadSubjectError):
            await web.connection.publish("oauth.acme.public.jwks", b"", "_INBOX.acme.web.a\rb")
