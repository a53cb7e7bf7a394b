"""A client connects with its own proof, as itself only, and no longer than the proof is valid."""

import asyncio
import base64
import itertools
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import nats
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from nats.errors import Error as NatsError
from nats.js.errors import BadRequestError

from heirloom.broker import credentials
from heirloom.broker.accounts import MAX_SUBSCRIPTIONS
from service.connections.admission import MAX_PROOF_CHARACTERS, digest
from tests.security.connections import connected
from tests.system.service import Caller, Service
from tests.system.workspace import ACCESS_TOKEN, EXCHANGE

ISSUER = "https://acme.example"
_numbers = itertools.count()


class Door:
    """A client of one test, and ways to connect as it."""

    def __init__(self, service: Service, operator: Caller) -> None:
        self.service, self.operator = service, operator
        self.client_id = f"door-{next(_numbers)}"

    async def register(self, *, secret: bool = False, **settings: Any) -> str:
        """Register the client; returns its secret if one was generated."""
        shared = {"grant_types": ["refresh_token", "client_credentials"], "scope": "read offline_access"}
        request = shared | {"client_id": self.client_id, "may_issue": True, "generate_secret": secret} | settings
        return str((await self.operator.ask("admin.acme.client.put", request)).get("client_secret", ""))

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[Caller]:
        """A connection with these options."""
        named = {"user": f"acme.{self.client_id}", "inbox_prefix": f"_INBOX.acme.{self.client_id}"}
        patience = {"connect_timeout": 5, "max_reconnect_attempts": 0}
        async with connected(f"nats://{self.service.host}", **named | patience | options) as connection:
            yield Caller(connection, f"oauth.acme.client.{self.client_id}")

    def of_a_person(self, token: str) -> AbstractAsyncContextManager[Caller]:
        """A connection with an end user's token, and that connection's own inbox."""
        return self.opened(password=token, inbox_prefix=f"_INBOX.acme.{self.client_id}.{digest(token)}")

    async def is_shut(self, **options: Any) -> str:
        """Fails if the broker accepts the connection; returns its error."""
        with pytest.raises(NatsError) as refused:
            async with self.opened(**options) as caller:
                await caller.connection.flush(1)  # nats-py reports a connection that ends at once as open
        return str(refused.value)

    async def token(self, **parameters: Any) -> str:
        """An access token: of an end user if `sub` is given, otherwise of the client itself."""
        async with self.service.client(self.client_id) as caller:
            if "sub" in parameters:
                answer = await caller.ask("issue", {"scope": "read"} | parameters)
            else:
                answer = await caller.ask("token", {"grant_type": "client_credentials", "scope": "read"} | parameters)
        return str(answer["access_token"])


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


async def ended(caller: Caller, seconds: float) -> None:
    """Wait until the broker has closed the connection; fails after that time."""
    async with asyncio.timeout(seconds):
        while not caller.connection.is_closed:
            await asyncio.sleep(0.02)


async def answers(caller: Caller, token: str) -> bool:
    """Whether a replica replies that this token is active."""
    try:
        return bool((await caller.ask("introspect", {"token": token}, seconds=1))["active"])
    except NatsError:
        return False


@pytest.fixture
async def door(service: Service) -> AsyncIterator[Door]:
    """A client that is not registered yet."""
    async with service.role("operator") as operator:
        yield Door(service, operator)


async def test_connecting_with_a_secret(door: Door) -> None:
    """Only with the current secret of the named client; every other one is refused alike."""
    secret = await door.register(secret=True)
    async with door.opened(password=secret) as caller:
        assert await caller.issue(scope="read")
    wrong = await door.is_shut(password=secret[::-1])
    assert (
        wrong
        == await door.is_shut(password=secret, user="acme.nobody")
        == await door.is_shut(password=secret, user="x")
    )
    assert wrong == await door.is_shut(password=secret, user=f"globex.{door.client_id}") == await door.is_shut()
    newer = await door.register(secret=True, rotate_secret=True)
    assert await door.is_shut(password=secret) == wrong
    async with door.opened(password=newer):
        pass


async def test_connecting_with_an_assertion(door: Door) -> None:
    """`private_key_jwt`, addressed to the issuer, once."""
    key = ECKey.generate_key("P-256")
    keys = {"keys": [key.as_dict(private=False)]}
    await door.register(token_endpoint_auth_method="private_key_jwt", jwks=keys)

    def assertion(**changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": door.client_id,
            "sub": door.client_id,
            "aud": ISSUER,
            "exp": now + 60,
            "jti": f"{next(_numbers)}",
        }
        return jwt.encode({"alg": "ES256"}, claims | changes, key)

    good = assertion()
    async with door.opened(password=good) as caller:
        assert await caller.issue(scope="read")
    await door.is_shut(password=good)
    await door.is_shut(password=assertion(aud="https://elsewhere.example"))
    await door.is_shut(password=assertion(exp=int(time.time()) - 1))
    await door.is_shut(password=assertion(sub="other", iss="other"))
    await door.is_shut(password=assertion(), user="acme.web")


async def test_connecting_with_the_longest_assertion(door: Door) -> None:
    """CONTRACT §2: the broker's control line has room for the longest proof that the service accepts."""
    key = ECKey.generate_key("P-256")
    keys = {"keys": [key.as_dict(private=False)]}
    await door.register(token_endpoint_auth_method="private_key_jwt", jwks=keys)

    def assertion(length: int) -> str:
        claims = {"iss": door.client_id, "sub": door.client_id, "aud": ISSUER, "exp": int(time.time()) + 60}
        for pad in range(length * 3 // 4, 0, -1):
            proof = jwt.encode({"alg": "ES256"}, claims | {"jti": f"{next(_numbers)}", "pad": "x" * pad}, key)
            if len(proof) <= length:
                return proof
        raise AssertionError

    longest = assertion(MAX_PROOF_CHARACTERS)
    assert len(longest) > MAX_PROOF_CHARACTERS - 3
    async with door.opened(password=longest) as caller:
        assert await caller.issue(scope="read")
    assert "Authorization Violation" in await door.is_shut(password=assertion(MAX_PROOF_CHARACTERS) + "xxx")


async def test_connecting_with_the_longest_access_token(door: Door) -> None:
    """A grant of nearly 4,000 bytes of JSON makes a token of almost 6 KB, with which its holder can connect."""
    scope = " ".join(f"right{number:035}" for number in range(2048 // 41))
    await door.register(scope=scope)
    large = {"sub": "s" * 255, "scope": scope, "acr": "a" * 255, "amr": [f"{number:085}" for number in range(14)]}
    token = await door.token(**large)
    assert 5400 < len(token) < MAX_PROOF_CHARACTERS
    async with door.of_a_person(token) as caller:
        assert await answers(caller, token)
    async with door.opened(user=None, token=token, inbox_prefix=f"_INBOX.acme.{door.client_id}.{digest(token)}"):
        pass


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_connecting_with_an_access_token(door: Door, form: str) -> None:
    """A client's own token gives all its rights; an end user's token cannot issue, even if `sub` is the client's name.

    A token for other audiences, for several, or from an exchange opens no connection.
    """
    grant_types = ["refresh_token", "client_credentials", EXCHANGE]
    await door.register(access_token_format=form, audiences=["https://api.example"], grant_types=grant_types)
    own, persons = await door.token(), await door.token(sub="alice")
    namesake = await door.token(sub=door.client_id)
    async with door.opened(password=own) as caller:
        assert await caller.issue(scope="read")
    for token in (namesake, persons):
        async with door.of_a_person(token) as caller:
            assert await caller.active(token)
            for what, request in (
                ("issue", {"sub": "mallory", "scope": "read"}),
                ("token", {"grant_type": "client_credentials"}),
            ):
                with pytest.raises(NatsError):
                    await caller.ask(what, request, seconds=0.3)
            await caller.ask("revoke", {"token": token})
    await door.is_shut(password=persons)
    await door.is_shut(password=own, user="acme.web")
    await door.is_shut(password=await door.token(resource="https://api.example"))
    await door.is_shut(password=await door.token(resource=[ISSUER, "https://api.example"]))
    exchanged = await door.token(
        grant_type=EXCHANGE, subject_token=own, subject_token_type=ACCESS_TOKEN, audience=ISSUER, scope="read"
    )
    await door.is_shut(password=exchanged)
    await door.is_shut(password=own[:-4] + "AAAA")
    if form == "jwt":  # it names its issuer
        async with door.opened(user=None, token=own) as caller:
            assert await caller.active(own)


async def test_an_end_users_token_receives_none_of_its_clients_messages(door: Door) -> None:
    """RFC 9700 §4.9.1: tokens of all its users arrive in the client's inbox, and in other users' inboxes."""
    await door.register()
    alices, bobs = await door.token(sub="alice"), await door.token(sub="bob")
    jti = claims_of(alices)["jti"]
    clients = f"_INBOX.acme.{door.client_id}"
    refused: list[str] = []

    async def noted(error: Exception) -> None:
        refused.append(str(error))

    async with door.opened(password=alices, inbox_prefix=f"{clients}.{jti}") as person:
        assert await person.active(alices), "the inbox may be named by the jti as well as by the token's digest"
        person.connection._error_cb = noted
        others = f"{clients}.{claims_of(bobs)['jti']}.>", f"{clients}.{digest(bobs)}.>"
        not_its_own = (f"{clients}.>", f"{clients}.*", f"{clients}.*.*", f"{clients}.*.>", "_INBOX.>", *others)
        heard = [await person.connection.subscribe(subject) for subject in not_its_own]
        async with door.service.client(door.client_id) as client, door.of_a_person(bobs) as bob:
            await client.issue(scope="read")
            await bob.active(bobs)
        await person.connection.flush()
        assert len(refused) == len(not_its_own)
        assert not any(subscription.pending_msgs for subscription in heard)


async def test_a_reply_starts_no_request(door: Door) -> None:
    """The caller chooses the reply subject: a subject of the service is no way to send a request there."""
    await door.register(scope="read offline_access")
    async with door.service.client(door.client_id) as caller, door.service.role("auditor") as auditor:
        token = (await caller.issue(scope="read"))["access_token"]
        before = (await auditor.ask("audit.acme.position", {}))["log_seq"]
        what = f"oauth.acme.client.{door.client_id}"
        for target in (
            f"{what}.issue",
            "oauth.acme.client.web.issue",
            "tokens.acme.tenant",
            "admin.acme.subject.block",
        ):
            await caller.connection.publish(f"{what}.introspect", json.dumps({"token": token}).encode(), reply=target)
        assert await caller.active(token)
        assert (await auditor.ask("audit.acme.position", {}))["log_seq"] == before


async def test_a_password_of_heirloom_url_ends_with_the_client(door: Door) -> None:
    """Disabling the client revokes it like every other proof; after enabling there is a new one."""
    await door.register()

    async def shown() -> str:
        return (await door.service.url(door.client_id)).split(":")[2].split("@")[0]

    first = await shown()
    async with door.opened(password=first) as caller:
        assert await caller.issue(scope="read")
    passwords = {first}
    for _ in range(2):
        await door.operator.ask("admin.acme.client.disable", {"client_id": door.client_id}, seconds=30)
        await door.operator.ask("admin.acme.client.enable", {"client_id": door.client_id}, seconds=30)
        for password in passwords:
            await door.is_shut(password=password)
        passwords.add(newer := await shown())
        async with door.opened(password=newer):
            pass
    assert len(passwords) == 3


async def test_an_end_users_token_introspects_only_its_own_clients_tokens(door: Door) -> None:
    """RFC 7662 §4: `may_introspect` is a right of the client, not of everybody who holds a token of its users."""
    await door.register(may_introspect=True)
    own, persons = await door.token(), await door.token(sub="alice")
    async with door.service.client("web") as web:
        others = await web.issue(scope="read offline_access")
        async with door.of_a_person(persons) as caller:
            assert await caller.active(persons) and await caller.active(own)
            for token in (others["access_token"], others["refresh_token"]):
                assert await caller.ask("introspect", {"token": token}) == {"active": False}
            assert await caller.ask("revoke", {"token": others["access_token"]}) == {}
        async with door.opened(password=own) as caller:
            assert await caller.active(others["access_token"]) and await caller.active(others["refresh_token"])
    await door.register(may_introspect=False)
    async with door.of_a_person(persons) as caller:
        assert not await caller.active(others["access_token"])
        await door.register(may_introspect=True)
        assert not await caller.active(others["access_token"]), "a connection from before the change has no more rights"


async def test_the_connection_ends_with_the_token(door: Door) -> None:
    """Neither earlier nor later."""
    await door.register(access_token_ttl=2)
    async with door.opened(password=await door.token()) as caller:
        assert await caller.issue(scope="read")
        await ended(caller, 6)


@pytest.mark.parametrize("form", ["jwt", "opaque"])
async def test_the_connection_ends_with_the_tokens_revocation(door: Door, form: str) -> None:
    """Whatever revokes it; connections by other tokens stay, also by tokens of the same family."""
    await door.register(access_token_format=form)
    async with door.service.client(door.client_id) as client:
        first = await client.issue("alice", "read offline_access")
        second = await client.refresh(first["refresh_token"])
        persons = [first["access_token"], second["access_token"]]
        own, others = await door.token(), await door.token()
        async with (
            door.of_a_person(persons[0]) as single,
            door.of_a_person(persons[1]) as of_family,
            door.opened(password=own) as by_own,
            door.opened(password=others) as stays,
        ):
            await client.ask("revoke", {"token": persons[0]})
            await ended(single, 1)
            assert await of_family.active(persons[1])
            await door.operator.ask("admin.acme.subject.revoke", {"sub": "alice"})
            await ended(of_family, 1)
            assert await by_own.issue(scope="read")
            assert await by_own.ask("revoke", {"token": own}) == {}, "the reply is sent before the connection ends"
            await ended(by_own, 1)
            assert await stays.issue(scope="read")


async def test_connections_end_after_the_accepting_replica_is_gone(door: Door) -> None:
    """New replicas read the list of connections from the broker."""
    await door.register()
    own, others = await door.token(), await door.token()
    async with door.opened(password=own) as caller, door.opened(password=others) as other:
        old = door.service.pids("heirloom.replica")
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while set(door.service.pids("heirloom.replica")) & set(old) or not await answers(caller, own):
                await asyncio.sleep(0.05)
        await caller.ask("revoke", {"token": own})
        await ended(caller, 10)
        assert await answers(other, others)


async def test_a_disabled_client_is_disconnected(door: Door) -> None:
    """However it connected, within a second of the acknowledgement; a client of that name in another tenant stays."""
    secret = await door.register(secret=True)
    namesake = {"client_id": door.client_id, "may_issue": True, "scope": "read offline_access"}
    await door.operator.ask("admin.globex.client.put", namesake)
    proofs = [secret, await door.token()]
    async with (
        door.service.client() as other,
        door.service.client(door.client_id, "globex") as globex,
        door.opened(password=proofs[0]) as first,
        door.opened(password=proofs[1]) as second,
    ):
        await door.operator.ask("admin.acme.client.disable", {"client_id": door.client_id}, seconds=30)
        assert (await first.ask("issue", {"sub": "alice", "scope": "read"}))["error"] == "invalid_client"
        await ended(first, 1)
        await ended(second, 1)
        assert await other.issue(scope="read offline_access")
        assert await globex.issue(scope="read offline_access")
        assert [caller.connection.stats["reconnects"] for caller in (other, globex)] == [0, 0]
    for proof in proofs:
        await door.is_shut(password=proof)


async def test_guessing_locks_nobody_out(door: Door) -> None:
    """RFC 6749 §10.10: during guesses the right secret still connects, of this client and of another one."""
    secret = await door.register(secret=True)
    victim = Door(door.service, door.operator)
    victims = await victim.register(secret=True)
    for _ in range(16):
        await victim.is_shut(password=f"guess-{next(_numbers)}")

    opened = asyncio.Event()

    async def guess() -> None:
        while not opened.is_set():
            await victim.is_shut(password=f"guess-{next(_numbers)}")

    async with asyncio.TaskGroup() as guessing:
        for _ in range(8):
            guessing.create_task(guess())
        for _ in range(10):
            async with victim.opened(password=victims), door.opened(password=secret):
                pass
        opened.set()


async def test_the_revocation_feed(door: Door) -> None:
    """A resource server receives stored revocations only."""
    await door.register()
    known = credentials.load(door.service.data)
    resource = await nats.connect(known.url("resource", door.service.host), inbox_prefix="_INBOX.role.resource")
    feed = await resource.subscribe("tokens.*.family.*.revoked")
    await resource.flush()
    log = await door.service.own()
    with pytest.raises(BadRequestError):  # a commit that lost its race
        late = {"Nats-Expected-Last-Subject-Sequence": "7"}
        await log.jetstream().publish("tokens.acme.family.late.revoked", b"", headers=late)
    await log.close()
    async with door.service.client(door.client_id) as caller:
        tokens = await caller.issue(scope="read offline_access")
        await caller.ask("revoke", {"token": tokens["refresh_token"]})
    heard = await feed.next_msg(3)
    assert json.loads(heard.data)["events"][-1]["type"] == "FamilyRevoked"
    assert heard.headers is not None and int(heard.headers["Nats-Sequence"]) > 0
    with pytest.raises(nats.errors.TimeoutError):
        await feed.next_msg(0.2)
    await resource.close()


async def test_an_auditor_reads_the_log_message_by_message(service: Service) -> None:
    """Without a consumer: one message a request, or several."""
    async with service.role("auditor") as auditor:
        ask = auditor.connection.request
        first = await ask("$JS.HEIRLOOM.API.DIRECT.GET.TOKENS", b'{"seq":1}')
        assert first.headers is not None and json.loads(first.data)["events"]
        newest = await ask("$JS.HEIRLOOM.API.DIRECT.GET.TOKENS.tokens.acme.tenant", b"")
        assert newest.headers is not None and newest.headers["Nats-Subject"] == "tokens.acme.tenant"
        inbox = auditor.connection.new_inbox()
        several = await auditor.connection.subscribe(inbox)
        await auditor.connection.publish("$JS.HEIRLOOM.API.DIRECT.GET.TOKENS", b'{"seq":1,"batch":2}', reply=inbox)
        read = [await several.next_msg(2) for _ in range(2)]
        assert [message.headers["Nats-Sequence"] for message in read if message.headers] == ["1", "2"]


async def test_too_many_requests_are_refused_with_slow_down(door: Door) -> None:
    """Limits of a client and of a family; refused requests append nothing, and a moment later the client is served."""
    await door.register(family_requests_per_second=2)
    async with door.service.client(door.client_id) as caller:
        token = (await caller.issue(scope="read offline_access"))["refresh_token"]
        answers = await asyncio.gather(*(caller.refresh(token, key="same") for _ in range(40)))
        assert {"slow_down"} == {answer["error"] for answer in answers if "error" in answer}
        assert any("refresh_token" in answer for answer in answers)
        await door.register(requests_per_second=3)
        answers = await asyncio.gather(*(caller.ask("introspect", {"token": token}) for _ in range(40)))
        refused = [answer for answer in answers if answer.get("error") == "slow_down"]
        assert refused and len(answers) > len(refused)
        async with asyncio.timeout(10):
            while "error" in await caller.ask("introspect", {"token": token}):
                await asyncio.sleep(0.1)
    await door.register(requests_per_second=1)
    for _ in range(3):
        async with door.service.client(door.client_id):
            pass  # connecting does not count as a request


async def test_a_client_has_at_most_max_connections(door: Door) -> None:
    """One more is refused, with any proof, until another one has ended."""
    await door.register(max_connections=2)
    password = credentials.load(door.service.data).client_url("acme", door.client_id, "x").split(":")[2].split("@")[0]
    token = await door.token()
    async with AsyncExitStack() as held:
        opened = [await held.enter_async_context(door.opened(password=password)) for _ in range(2)]
        async with asyncio.timeout(20):
            while not all(caller.connection.is_connected for caller in opened) or await _is_let_in(door, token):
                await asyncio.sleep(0.1)  # each replica accepts by its own count, and ends what is too much later
        await opened[0].connection.close()
        async with asyncio.timeout(20):
            while not await _is_let_in(door, token):
                await asyncio.sleep(0.1)


async def _is_let_in(door: Door, token: str) -> bool:
    try:
        async with door.opened(password=token) as caller:
            await caller.connection.flush(1)
    except NatsError:
        return False
    return True


@pytest.mark.parametrize("who", ["client", "resource"])
async def test_a_connection_has_a_limit_of_subscriptions(service: Service, who: str) -> None:
    """The broker closes it at one more: 200,000 subscriptions would take a third of a gigabyte of its memory."""
    async with service.client("web") if who == "client" else service.role(who) as caller:
        prefix = caller.connection._inbox_prefix.decode()
        for number in range(MAX_SUBSCRIPTIONS):
            await caller.connection.subscribe(f"{prefix}.{number}")
        await caller.connection.flush()
        assert caller.connection.is_connected
        known = caller.connection.stats["reconnects"]
        await caller.connection.subscribe(f"{prefix}.more")
        async with asyncio.timeout(10):
            while not caller.connection.is_closed and caller.connection.stats["reconnects"] == known:
                await asyncio.sleep(0.02)


async def test_a_bound_out_of_range_is_refused(door: Door) -> None:
    """At least one, and at most what one broker holds."""
    for value in (0, -1, 1_000_000, "many"):
        request = {"client_id": door.client_id, "max_connections": value}
        assert (await door.operator.ask("admin.acme.client.put", request))["error"] == "invalid_request"
