"""Responses to the broker's auth callout: the whole JWT, and the same refusal for every reason."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import nkeys
import pytest
from nats.errors import Error as NatsError

from events.fairness.fair_queue import NoRoom
from events.log.jetstream_api import Unavailable
from service import clock
from service.connections.admission import Admitted, ConnectOptions
from service.connections.auth_callout import SUBJECT, Callout
from service.connections.token_connections import TokenConnection
from service.errors import invalid_client
from service.registry.named_role import NamedRole, below

SEED = nkeys.encode_seed(b"s" * 32, nkeys.PREFIX_BYTE_ACCOUNT).decode()
USER = "UABC"
NOTHING = cast("Any", None)
REFUSAL = {"error": "Authorization Violation", "type": "authorization_response", "version": 2}
HOLDING = TokenConnection("acme", "web", "family", "jti", 1_800_000_000)


class Message:
    """An authorization request of the broker, and the response to it."""

    def __init__(self, **fields: Any) -> None:
        question = {
            "server_id": {"id": "SERVER"},
            "user_nkey": USER,
            "connect_opts": {"user": "acme.web"},
            "client_info": {},
        } | fields
        self.data = b"header." + encoded({"nats": question}) + b".signature"
        self.answer = b""
        self.fails: Exception | None = None

    async def respond(self, answer: bytes) -> None:
        if self.fails is not None:
            raise self.fails
        self.answer = answer


class World:
    """A callout, the decisions it gets, and what it does with them."""

    def __init__(self) -> None:
        self.admitted: Admitted | Exception = Admitted("acme", "web")
        self.offered: list[ConnectOptions] = []
        self.opened: list[TokenConnection] = []
        self.counted: list[tuple[str, str]] = []
        self.has_room = True
        self.gets_room = False
        self.confirmed: list[tuple[ConnectOptions, Admitted]] = []
        self.is_void: Exception | None = None
        self.drained = False
        counts = SimpleNamespace(try_take=self._takes, try_take_later=self._takes_later)
        token_connections = SimpleNamespace(opened=self.opened.append)
        admission = SimpleNamespace(admit=self._admit, confirm=self._confirm)
        self.callout = Callout(cast("Any", admission), cast("Any", token_connections), cast("Any", counts), SEED)
        self.subscribed: list[tuple[str, str]] = []
        self.asked = NOTHING

    async def answer(self, message: Message) -> dict[str, Any]:
        """Deliver the request; return the claims of the response, after its signature is verified."""
        await self.asked(message)
        await self.callout.drain()
        return claims_of(message.answer)

    async def subscribe(self, subject: str, queue: str, cb: Any) -> Any:
        self.subscribed.append((subject, queue))
        self.asked = cb
        return SimpleNamespace(drain=self._drain)

    async def flush(self) -> None:
        assert self.asked is not NOTHING, "subscribed before it is flushed"

    async def _drain(self) -> None:
        self.drained = True

    async def _admit(self, offered: ConnectOptions) -> Admitted:
        self.offered.append(offered)
        if isinstance(self.admitted, Exception):
            raise self.admitted
        return self.admitted

    async def _confirm(self, offered: ConnectOptions, admitted: Admitted) -> None:
        self.confirmed.append((offered, admitted))
        if self.is_void is not None:
            raise self.is_void

    def _takes(self, tenant: str, client_id: str) -> bool:
        self.counted.append((tenant, client_id))
        return self.has_room

    async def _takes_later(self, tenant: str, client_id: str) -> bool:
        assert self.counted[-1] == (tenant, client_id)
        return self.gets_room


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    await world.callout.start(cast("Any", world))
    yield world


def encoded(value: Any) -> bytes:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def decoded(part: bytes) -> Any:
    """The value in a part of a JWT."""
    assert b"=" not in part
    return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))


def claims_of(jwt: bytes) -> dict[str, Any]:
    """The JWT's claims, after its issuer, signature and time are verified."""
    header, payload, signature = jwt.split(b".")
    issuer, claims = nkeys.from_seed(SEED.encode()), decoded(payload)
    assert decoded(header) == {"typ": "JWT", "alg": "ed25519-nkey"}
    padded = signature + b"=" * (-len(signature) % 4)
    assert issuer.verify(header + b"." + payload, base64.urlsafe_b64decode(padded))
    assert claims.pop("iss") == issuer.public_key.decode()
    assert abs(claims.pop("iat") - clock.now().timestamp()) < 60
    assert len(claims.pop("jti")) == 22
    return cast("dict[str, Any]", claims)


def user_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The claims of the user JWT in a response that admits."""
    assert answer["aud"] == "SERVER" and answer["sub"] == USER
    jwt = answer["nats"].pop("jwt")
    assert answer["nats"] == {"type": "authorization_response", "version": 2}
    return claims_of(jwt.encode())


def unlimited(allow: list[str], inboxes: list[str]) -> dict[str, Any]:
    """A user's permissions without limits."""
    rights = {"pub": {"allow": allow}, "sub": {"allow": inboxes}, "type": "user", "version": 2}
    return rights | {"subs": -1, "data": -1, "payload": -1}


async def test_a_client_may_use_only_its_own_subjects_and_inbox(world: World) -> None:
    """It has no expiry, since its proof has none."""
    assert user_of(await world.answer(Message())) == {
        "aud": "USERS",
        "sub": USER,
        "name": "acme/web",
        "nats": unlimited(["oauth.acme.client.web.>", "oauth.acme.public.>"], below("_INBOX.acme.web")),
    }
    assert (world.offered, world.opened, world.counted) == ([ConnectOptions("acme.web")], [], [("acme", "web")])
    assert not world.confirmed, "no time has passed since the admission"


async def test_a_persons_token_may_introspect_and_revoke_but_not_issue(world: World) -> None:
    """RFC 6750 §5.3: its holder is not the client, so inboxes and account differ, and no endpoint that issues."""
    world.admitted = Admitted("acme", "web", HOLDING, ("jti", "digest"))
    assert user_of(await world.answer(Message())) == {
        "aud": "PERSONS",
        "sub": USER,
        "name": "acme/web/family/jti/1800000000",
        "exp": 1_800_000_000,
        "nats": unlimited(
            ["oauth.acme.client.web.introspect", "oauth.acme.client.web.revoke", "oauth.acme.public.>"],
            [*below("_INBOX.acme.web.jti"), *below("_INBOX.acme.web.digest")],
        ),
    }
    assert world.opened == [HOLDING]


async def test_a_connection_ends_with_the_clients_own_token(world: World) -> None:
    """A token by `client_credentials` is the client itself, as long as it is valid."""
    world.admitted = Admitted("acme", "web", HOLDING)
    user = user_of(await world.answer(Message()))
    assert (user["aud"], user["exp"], user["name"]) == ("USERS", HOLDING.until, HOLDING.user)
    assert user["nats"] == unlimited(["oauth.acme.client.web.>", "oauth.acme.public.>"], below("_INBOX.acme.web"))


async def test_a_named_role_has_its_permissions_in_its_account(world: World) -> None:
    role = NamedRole("acme", "eve", "operator")
    world.admitted = Admitted("acme", "role:eve", role=role)
    user = user_of(await world.answer(Message()))
    rights = {"pub": {"allow": role.publish()}, "sub": {"allow": role.subscribe()}, "type": "user", "version": 2}
    assert user == {
        "aud": "OPERATORS",
        "sub": USER,
        "name": "acme/role:eve",
        "nats": rights | {"subs": -1, "data": -1, "payload": -1},
    }


@pytest.mark.parametrize(
    ("why", "has_room"),
    [
        (invalid_client(), True),
        (Unavailable("away"), True),
        (ZeroDivisionError("a fault of ours"), True),
        (None, False),
    ],
    ids=["refused", "unavailable", "a fault", "too many"],
)
async def test_every_refusal_has_the_same_response(
    world: World, why: Exception | None, has_room: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Also for a fault of ours: a client without a response would wait, and then reconnect at once."""
    world.admitted, world.has_room = why or Admitted("acme", "web", HOLDING), has_room
    caplog.set_level(logging.INFO)
    answer = await world.answer(Message())
    assert answer == {"aud": "SERVER", "sub": USER, "nats": REFUSAL}
    assert not world.opened, "a refused connection has no token"
    (record,) = caplog.records
    assert record.getMessage().startswith("a connection was refused")
    assert (record.exc_info is not None) == isinstance(why, ZeroDivisionError)
    assert has_room or "max_connections" in getattr(record, "why", "")
    assert getattr(record, "why", "slow_down").startswith(str(why) if why and record.exc_info is None else "slow_down")


@pytest.mark.parametrize("is_void", [None, invalid_client(), ZeroDivisionError("a fault of ours")])
async def test_a_client_that_waited_for_room_is_confirmed(world: World, is_void: Exception | None) -> None:
    """Its proof may have become void meanwhile, and nothing else would end its connection."""
    world.admitted, world.has_room, world.gets_room = Admitted("acme", "web", HOLDING), False, True
    world.is_void = is_void
    answer = await world.answer(Message())
    assert world.confirmed == [(ConnectOptions("acme.web"), world.admitted)]
    if is_void is None:
        assert user_of(answer)["name"] == HOLDING.user and world.opened == [HOLDING]
    else:
        assert answer == {"aud": "SERVER", "sub": USER, "nats": REFUSAL} and not world.opened


async def test_a_broker_that_is_gone_meanwhile_is_not_logged_as_a_fault(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The request is lost with its connection; the next one is answered."""
    caplog.set_level(logging.INFO)
    message = Message()
    message.fails = NatsError()
    await world.asked(message)
    await world.callout.drain()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert caplog.records[0].getMessage().endswith(": Error")
    assert user_of(await world.answer(Message()))["name"] == "acme/web"


async def test_one_replica_answers_each_request_and_a_stopping_one_finishes_its_own(world: World) -> None:
    """They share a queue group; after the end of the subscription the requests at work are answered."""
    assert (SUBJECT, world.subscribed) == ("$SYS.REQ.USER.AUTH", [("$SYS.REQ.USER.AUTH", "heirloom")])
    await Callout(NOTHING, NOTHING, NOTHING, SEED).drain()
    message = Message()
    await world.asked(message)
    assert len(message.answer) == 0
    await world.callout.drain()
    assert world.drained and message.answer
    await asyncio.sleep(0)
    assert not world.callout._tasks


async def test_only_the_host_with_too_many_requests_waits(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its further requests are not answered; requests without a host count as one host."""
    caplog.set_level(logging.INFO)
    hosts: list[tuple[str, str]] = []

    def of(requester: tuple[str, str]) -> Any:
        hosts.append(requester)
        if requester[0] == "192.0.2.1":
            raise NoRoom
        return asyncio.Lock()

    monkeypatch.setattr(world.callout, "_turns", SimpleNamespace(of=of))
    refused, other = Message(client_info={"host": "192.0.2.1"}), Message()
    await world.asked(refused)
    assert user_of(await world.answer(other))["name"] == "acme/web"
    assert not refused.answer
    assert hosts == [("192.0.2.1", ""), ("", "")]
    (record,) = caplog.records
    assert "too many of its host" in record.getMessage()
    assert getattr(record, "host", None) == "192.0.2.1"


async def test_a_request_that_waited_too_long_is_not_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker gave up on it, so a decision would be wasted."""
    monkeypatch.setattr("service.connections.auth_callout.ANSWER_WITHIN_SECONDS", 0.0)
    message = Message()
    await world.asked(message)
    await world.callout.drain()
    assert len(message.answer) == 0 and not world.offered


async def test_a_request_of_any_length_is_decoded(world: World) -> None:
    """RFC 7515 §2: a JWT has no padding, so the missing padding is added."""
    for length in range(12):
        await world.answer(Message(user_nkey="U" * length))


async def test_a_failing_response_does_not_stop_the_others(world: World) -> None:
    """A stopping replica waits for each of them."""
    broken, other = Message(), Message()
    broken.fails = RuntimeError("a fault of nats-py")
    await world.asked(broken)
    await world.asked(other)
    await world.callout.drain()
    assert user_of(claims_of(other.answer))["name"] == "acme/web"
