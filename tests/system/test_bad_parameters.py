"""Each parameter of each grant and endpoint: missing, repeated, mistyped, over-long; and each credential that is not
good where it is presented. The RFC's code within a second, nothing written but what CONTRACT §3 names, nothing used up.

A parameter of null has no value, and counts as left out (RFC 6749 §3.2). What `test_bad_input` and `test_grants` assert
(refresh tokens altered or of another client or tenant, codes of another client, values of a wrong form) is left to
them; codes that are too old are judged in `tests/service/decide/test_authorization_code.py`, for nobody waits a minute
here.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.system.service import Caller, Service
from tests.system.workspace import (
    CHALLENGE,
    DEVICE,
    EXCHANGE,
    REDIRECT,
    SCOPE,
    Workspace,
    claims,
    code_for,
    device_code,
    made,
    poll,
    redemption,
    swap,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BODY = 16 * 1024
HUGE = "x" * 15_000
_TARGET = "https://a.example/"


class World:
    """A tenant with a client for everything, another tenant, and who is connected as them."""

    workspace: Workspace
    clients: dict[str, Caller]
    elsewhere: Workspace
    secret: str
    """Of the client `edge`."""

    def __getitem__(self, client_id: str) -> Caller:
        return self.clients[client_id]


CLIENTS: dict[str, dict[str, Any]] = {
    "web": {"grant_types": ["refresh_token", "client_credentials"], "audiences": ["*"]},
    "app": {
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [REDIRECT],
        "audiences": ["*"],
    },
    "other": {
        "grant_types": ["authorization_code", "refresh_token", DEVICE, EXCHANGE],
        "redirect_uris": [REDIRECT],
        "access_token_format": "opaque",
    },
    "television": {"grant_types": [DEVICE, "refresh_token"], "audiences": ["*"]},
    "orders": {
        "grant_types": [EXCHANGE],
        "may_introspect": True,
        "audiences": [_TARGET, "stock"],
        "may_exchange": ["web", "other", "brief"],
    },
    "login": {"may_authorize": True},
    "brief": {"access_token_ttl": 1, "refresh_token_ttl": 1},
    "edge": {"grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post"},
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(service: Service) -> AsyncIterator[World]:
    """Connected once for all."""
    async with AsyncExitStack() as stack:
        world = World()
        world.workspace = await stack.enter_async_context(made(service))
        world.elsewhere = await stack.enter_async_context(made(service))
        for client_id, settings in CLIENTS.items():
            await world.workspace.register(client_id, **settings)
        world.secret = await world.workspace.register("edge", secret=True, **CLIENTS["edge"])
        world.clients = {name: await stack.enter_async_context(world.workspace.client(name)) for name in CLIENTS}
        for client_id in ("app", "login"):
            await world.elsewhere.register(client_id, **CLIENTS[client_id])
        yield world


class P(NamedTuple):
    """A parameter: what it answers when it is missing (None: it may be), and when it is longer than it may be."""

    name: str
    missing: str | None
    too_long: tuple[tuple[Any, str | None], ...] = ()
    types: tuple[type, ...] = (str,)


class Kind(NamedTuple):
    """A request that is good, made anew, and its parameters."""

    endpoint: str
    client_id: str
    good: Callable[[World], Awaitable[dict[str, Any]]]
    parameters: tuple[P, ...]


IR, IG, IS, IT = "invalid_request", "invalid_grant", "invalid_scope", "invalid_target"
GRANT_TYPE = P("grant_type", IR, ((HUGE, "unsupported_grant_type"),))
SCOPE_ = P("scope", None, (("read " * 410 + "read", IS), ("x" * 2049, IS)))
RESOURCE = P(
    "resource",
    None,
    ((_TARGET + "x" * 512, IT), ([f"{_TARGET}{number}" for number in range(17)], IT), ([], IT)),
    (str, list),
)
HINT = P("token_type_hint", None, ((HUGE, None),))
PERSON = (
    P("sub", IR, (("x" * 256, IR), (HUGE, IR))),
    P("acr", None, (("x" * 256, IR),)),
    P("amr", None, ((["x"] * 17, IR), (["x" * 256], IR), ([""], IR)), (list,)),
    P("auth_time", None, ((1 << 40, IR), (1 << 70, IR)), (int,)),
    P("nonce", None, (("x" * 513, IR),)),
)


async def _refreshing(world: World) -> dict[str, Any]:
    token = (await world["web"].issue())["refresh_token"]
    return {"grant_type": "refresh_token", "refresh_token": token, "scope": "read", "resource": world.workspace.issuer}


async def _redeeming(world: World) -> dict[str, Any]:
    return redemption(await code_for(world["login"], "app"))


async def _for_itself(world: World) -> dict[str, Any]:
    return {"grant_type": "client_credentials", "scope": "read", "resource": _TARGET}


async def _polling(world: World) -> dict[str, Any]:
    return poll(await device_code(world["television"], world["login"]))


async def _exchanging(world: World) -> dict[str, Any]:
    token = (await world["web"].issue())["access_token"]
    requested = {"requested_token_type": "urn:ietf:params:oauth:token-type:access_token"}
    return swap(token, scope="read", resource=_TARGET, audience="stock", **requested)


async def _issuing(world: World) -> dict[str, Any]:
    person = {"sub": "alice", "acr": "mfa", "amr": ["pwd"], "auth_time": 1, "nonce": "n"}
    return person | {"scope": SCOPE, "resource": _TARGET}


async def _authorizing(world: World) -> dict[str, Any]:
    code = {"client_id": "app", "redirect_uri": REDIRECT, "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    return await _issuing(world) | code


async def _approving(world: World) -> dict[str, Any]:
    started = await world["television"].ask("device_authorization", {"resource": _TARGET})
    return await _issuing(world) | {"user_code": started["user_code"], "approved": True}


async def _starting(_world: World) -> dict[str, Any]:
    return {"scope": "read", "resource": _TARGET}


async def _about_a_token(world: World) -> dict[str, Any]:
    return {"token": (await world["web"].issue())["refresh_token"], "token_type_hint": "refresh_token"}


KINDS: dict[str, Kind] = {
    "refresh_token": Kind(
        "token", "web", _refreshing, (GRANT_TYPE, P("refresh_token", IR, ((HUGE, IG),)), SCOPE_, RESOURCE)
    ),
    "authorization_code": Kind(
        "token",
        "app",
        _redeeming,
        (
            GRANT_TYPE,
            P("code", IR, ((HUGE, IG),)),
            P("redirect_uri", IG, ((REDIRECT + HUGE, IG),)),
            P("code_verifier", IR, (("v" * 129, IR), (HUGE, IR))),
        ),
    ),
    "client_credentials": Kind("token", "web", _for_itself, (GRANT_TYPE, SCOPE_, RESOURCE)),
    "device_code": Kind("token", "television", _polling, (GRANT_TYPE, P("device_code", IR, ((HUGE, IG),)))),
    "token_exchange": Kind(
        "token",
        "orders",
        _exchanging,
        (
            GRANT_TYPE,
            P("subject_token", IR, ((HUGE, IR),)),
            P("subject_token_type", IR, ((HUGE, IR),)),
            P("requested_token_type", None, ((HUGE, IR),)),
            P("audience", None, (("x" * 513, IT), (["x"] * 17, IT)), (str, list)),
            SCOPE_,
            RESOURCE,
        ),
    ),
    "issue": Kind("issue", "web", _issuing, (*PERSON, SCOPE_, RESOURCE)),
    "authorize": Kind(
        "authorize",
        "login",
        _authorizing,
        (
            *PERSON,
            SCOPE_,
            RESOURCE,
            P("client_id", IR, (("x" * 65, IR), (HUGE, IR))),
            P("redirect_uri", None, ((f"{REDIRECT}?{'x' * 2048}", IR),)),
            P("code_challenge", IR, (("v" * 44, IR), (HUGE, IR))),
            P("code_challenge_method", IR, ((HUGE, IR),)),
        ),
    ),
    "approve": Kind(
        "authorize",
        "login",
        _approving,
        (
            *PERSON,
            SCOPE_,
            RESOURCE,
            P("user_code", IR, (("B" * 9, IR), (HUGE, IR))),
            P("approved", IR, (), (bool,)),
        ),
    ),
    "device_authorization": Kind("device_authorization", "television", _starting, (SCOPE_, RESOURCE)),
    "revoke": Kind("revoke", "web", _about_a_token, (P("token", IR, ((HUGE, None),)), HINT)),
    "introspect": Kind("introspect", "web", _about_a_token, (P("token", IR, ((HUGE, None),)), HINT)),
}
EACH = [pytest.param(kind, p, id=f"{name}-{p.name}") for name, kind in KINDS.items() for p in kind.parameters]
MISTYPED: tuple[Any, ...] = ("x", 7, 1.5, True, {"x": "y"}, ["x"], [7], [None], [["x"]])


def _fits(value: Any, types: tuple[type, ...]) -> bool:
    """Whether a value is of one of these JSON types; lists are of strings."""
    if isinstance(value, list):
        return list in types and all(isinstance(item, str) for item in value)
    return type(value) in types


async def _refused(world: World, kind: Kind, body: dict[str, Any] | bytes, error: str) -> None:
    """That error within a second."""
    answer = await world[kind.client_id].ask(kind.endpoint, body, seconds=1)
    assert answer.get("error") == error, (str(body)[:300], answer)


async def _accepted(world: World, kind: Kind, body: dict[str, Any] | bytes) -> None:
    answer = await world[kind.client_id].ask(kind.endpoint, body, seconds=1)
    assert "error" not in answer, answer


def _without(request: dict[str, Any], name: str) -> dict[str, Any]:
    return {known: value for known, value in request.items() if known != name}


@pytest.mark.parametrize(("kind", "p"), EACH)
async def test_missing(world: World, kind: Kind, p: P) -> None:
    """Left out or null: `invalid_request` and nothing written where it is required, fine where it is not."""
    for how in ("left out", "null"):
        good = await kind.good(world)
        bad = _without(good, p.name) | ({p.name: None} if how == "null" else {})
        if p.missing is None:
            await _accepted(world, kind, bad)
            continue
        if (kind.endpoint, p.name) == ("authorize", "user_code"):
            bad |= {"client_id": "app"}  # else it would be another request altogether
        before = await world.workspace.sequence()
        await _refused(world, kind, bad, p.missing)
        assert await world.workspace.sequence() == before
        await _accepted(world, kind, good)


@pytest.mark.parametrize(("kind", "p"), EACH)
async def test_repeated(world: World, kind: Kind, p: P) -> None:
    """Twice, with another value or the same, first or last, spelled alike or with an escape: `invalid_request`."""
    good = await kind.good(world)
    before = await world.workspace.sequence()
    rest = json.dumps(good)[1:]
    escaped = f"\\u{ord(p.name[0]):04x}{p.name[1:]}"
    for name in (p.name, escaped):
        for value in (json.dumps(good.get(p.name)), '"x"', "null", "[]"):
            for body in (f'{{"{name}": {value}, {rest}', f'{{{rest[:-1]}, "{name}": {value}}}'):
                await _refused(world, kind, body.encode(), IR)
    assert await world.workspace.sequence() == before
    await _accepted(world, kind, good)


@pytest.mark.parametrize(("kind", "p"), EACH)
async def test_mistyped(world: World, kind: Kind, p: P) -> None:
    """A number, a truth, an object, a list where none belongs: `invalid_request`."""
    good = await kind.good(world)
    before = await world.workspace.sequence()
    for value in MISTYPED:
        if not _fits(value, p.types):
            await _refused(world, kind, good | {p.name: value}, IR)
    assert await world.workspace.sequence() == before
    await _accepted(world, kind, good)


@pytest.mark.parametrize(("kind", "p"), [param for param in EACH if param.values[1].too_long])  # type: ignore[union-attr]
async def test_over_long(world: World, kind: Kind, p: P) -> None:
    """Beyond its own limit: the parameter's error. A token too long to be one is unknown; a hint is but a hint."""
    good = await kind.good(world)
    before = await world.workspace.sequence()
    for value, error in p.too_long:
        request = good | {p.name: value}
        if error is not None:
            await _refused(world, kind, request, error)
        elif p.name == "token":
            answer = await world[kind.client_id].ask(kind.endpoint, request, seconds=1)
            assert answer == ({} if kind.endpoint == "revoke" else {"active": False})
        else:
            await _accepted(world, kind, request)
            return
    assert await world.workspace.sequence() == before
    await _accepted(world, kind, good)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_sixteen_kibibytes(world: World, kind: Kind) -> None:
    """A request of just that size is fine, unknown parameters and all; of one byte more it is `invalid_request`."""
    good = await kind.good(world)
    before = await world.workspace.sequence()
    room = MAX_BODY - len(json.dumps(good | {"unknown": ""}))
    await _refused(world, kind, good | {"unknown": "x" * (room + 1)}, IR)
    assert await world.workspace.sequence() == before
    await _accepted(world, kind, good | {"unknown": "x" * room})


async def test_values_of_just_the_longest(world: World) -> None:
    """Every limit is the last good value, as many at once as one token holds; it can be presented wherever it may be.

    CONTRACT §2: a token of 17 KB was issued, and introspect, revoke and exchange refused it as too large.
    """
    resources = [_TARGET + f"{number:02}".rjust(512 - len(_TARGET), "x") for number in range(16)]
    longest = {"sub": "s" * 255, "acr": "a" * 255, "amr": ["m" * 100] * 16, "auth_time": (1 << 40) - 1}
    longest |= {"nonce": "n" * 512, "resource": resources[:3], "scope": SCOPE}
    tokens = await world["web"].ask("issue", longest, seconds=1)
    assert "error" not in tokens, tokens
    told = claims((await world["web"].refresh(tokens["refresh_token"]))["access_token"])
    assert {name: told[name] for name in ("sub", "acr", "amr", "auth_time")} == {
        name: longest[name] for name in ("sub", "acr", "amr", "auth_time")
    }
    assert told["aud"] == resources[:3]
    exchanged = (await world["orders"].ask("token", swap(tokens["access_token"]), seconds=1))["access_token"]
    for token in (tokens["access_token"], exchanged):
        assert len(token) < 8192 and await world["orders"].active(token)
    assert await world["web"].ask("revoke", {"token": tokens["access_token"]}, seconds=1) == {}
    assert not await world["orders"].active(exchanged), "and so is the revoked one's effect"


@pytest.mark.parametrize("kind", ["issue", "authorize", "approve", "device_authorization", "client_credentials"])
async def test_a_grant_that_no_token_would_hold(world: World, kind: str) -> None:
    """CONTRACT §2: each value is good by itself, and together they are `invalid_request`; nothing is written."""
    good = await KINDS[kind].good(world)
    many = [_TARGET + f"{number:02}".rjust(512 - len(_TARGET), "x") for number in range(16)]
    large = {"acr": "a" * 255, "amr": ["m" * 255] * 16} if kind == "approve" else {"resource": many}
    before = await world.workspace.sequence()
    await _refused(world, KINDS[kind], good | large, IR)
    assert await world.workspace.sequence() == before
    await _accepted(world, KINDS[kind], good)


@pytest.mark.parametrize("name", ["authorization_code", "device_code"])
@pytest.mark.parametrize("key", ["", "x" * 256, "not visible"], ids=["empty", "over-long", "with a space"])
async def test_an_idempotency_key_that_is_none(world: World, name: str, key: str) -> None:
    """`invalid_request`, and the code is not used up; the longest good key is taken."""
    kind = KINDS[name]
    good = await kind.good(world)
    before = await world.workspace.sequence()
    answer = await world[kind.client_id].ask(kind.endpoint, good, key=key, seconds=1)
    assert answer["error"] == IR
    assert await world.workspace.sequence() == before
    assert "access_token" in await world[kind.client_id].ask(kind.endpoint, good, key="x" * 255)


@pytest.mark.parametrize("name", ["client_id", "client_secret", "client_assertion", "client_assertion_type"])
async def test_what_proves_the_client_at_the_edge(world: World, service: Service, name: str) -> None:
    """Missing or over-long it proves nothing; repeated, mistyped or half of two it is `invalid_request`."""
    proof = {"client_id": "edge", "client_secret": world.secret}
    good: dict[str, Any] = {"grant_type": "client_credentials"} | proof
    before = await world.workspace.sequence()
    async with service.role("edge") as edge:

        async def refused(body: dict[str, Any] | bytes, error: str) -> None:
            answer = await edge.ask(f"oauth.{world.workspace.name}.edge.token", body)
            assert answer.get("error") == error, (body, answer)

        for value in MISTYPED[1:]:
            await refused(good | {name: value}, IR)
        await refused(f'{{"{name}": {json.dumps(good.get(name))}, {json.dumps(good | {name: "x"})[1:]}'.encode(), IR)
        if name in proof:
            await refused(_without(good, name), "invalid_client")
            await refused(good | {name: None}, "invalid_client")
            await refused(good | {name: HUGE}, "invalid_client")
        else:
            await refused(good | {name: "x"}, IR)
            await refused(_without(good, "client_secret") | {name: HUGE}, IR)
        assert await world.workspace.sequence() == before
        assert "access_token" in await edge.ask(f"oauth.{world.workspace.name}.edge.token", good)


# Credentials that are none where they are presented


class Held(NamedTuple):
    """Credentials of every kind, all good where they belong."""

    refresh: str
    access: str
    opaque: str
    id: str
    code: str
    device: str


async def _held(world: World) -> Held:
    webs, others = await world["web"].issue(scope=SCOPE), await world["other"].issue()
    code, device = await code_for(world["login"], "app"), await device_code(world["television"], world["login"])
    return Held(webs["refresh_token"], webs["access_token"], others["access_token"], webs["id_token"], code, device)


async def _all_good(world: World, held: Held) -> None:
    """Each does what it is for."""
    assert await world["orders"].active(held.access) and await world["orders"].active(held.opaque)
    for client_id, request in (
        ("web", {"grant_type": "refresh_token", "refresh_token": held.refresh}),
        ("app", redemption(held.code)),
        ("television", poll(held.device)),
        ("orders", swap(held.access)),
        ("orders", swap(held.opaque)),
    ):
        assert "access_token" in await world[client_id].ask("token", request)


PLACES: dict[str, tuple[str, str, Callable[[str], dict[str, Any]], dict[str, Any] | str, tuple[str, ...]]] = {
    "refresh_token": (
        "web",
        "token",
        lambda token: {"grant_type": "refresh_token", "refresh_token": token},
        IG,
        ("refresh",),
    ),
    "code": ("app", "token", redemption, IG, ("code",)),
    "device_code": ("television", "token", poll, IG, ("device",)),
    "subject_token": ("orders", "token", swap, IR, ("access", "opaque")),
    "revoke": ("web", "revoke", lambda token: {"token": token}, {}, ("refresh", "access", "opaque")),
    "introspect": (
        "orders",
        "introspect",
        lambda token: {"token": token},
        {"active": False},
        ("refresh", "access", "opaque"),
    ),
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_credential_of_another_kind(world: World, place: str) -> None:
    """Is nothing where it is presented, and loses nothing of what it is good for."""
    client_id, endpoint, request, expected, belong = PLACES[place]
    held = await _held(world)
    before = await world.workspace.sequence()
    for kind, credential in held._asdict().items():
        if kind not in belong:
            answer = await world[client_id].ask(endpoint, request(credential), seconds=1)
            assert (answer.get("error") if isinstance(expected, str) else answer) == expected, kind
    assert await world.workspace.sequence() == before
    await _all_good(world, held)


async def test_a_credential_of_another_tenant(world: World) -> None:
    """Codes and access tokens of one tenant at another's endpoints: unknown, and good at home afterwards."""
    held = await _held(world)
    for client_id in ("television", "orders"):
        await world.elsewhere.register(client_id, **CLIENTS[client_id])
    before = await world.workspace.sequence()
    for place, credential in (
        ("code", held.code),
        ("device_code", held.device),
        ("subject_token", held.access),
        ("subject_token", held.opaque),
        ("introspect", held.access),
        ("introspect", held.opaque),
    ):
        client_id, endpoint, request, expected, _ = PLACES[place]
        async with world.elsewhere.client(client_id) as stranger:
            answer = await stranger.ask(endpoint, request(credential), seconds=1)
        assert (answer.get("error") if isinstance(expected, str) else answer) == expected, place
    assert await world.workspace.sequence() == before
    await _all_good(world, held)


async def test_a_credential_of_another_client(world: World) -> None:
    """A device code and an opaque token of another client: refused as if unknown, revoked by nobody else."""
    held = await _held(world)
    before = await world.workspace.sequence()
    assert (await world["other"].ask("token", poll(held.device), seconds=1))["error"] == IG
    assert await world["web"].ask("revoke", {"token": held.opaque}, seconds=1) == {}
    assert await world["web"].ask("introspect", {"token": held.opaque}, seconds=1) == {"active": False}
    assert await world.workspace.sequence() == before
    await _all_good(world, held)


async def test_parameters_of_another_family(world: World) -> None:
    """A target of another family's grant, a key of another family's redemption: each family is judged by its own."""
    one = await world["web"].ask("issue", {"sub": "alice", "scope": "read offline_access", "resource": _TARGET})
    two = await world["web"].ask("issue", {"sub": "alice", "scope": SCOPE, "resource": "https://b.example/"})
    before = await world.workspace.sequence()
    refused = await world["web"].refresh(one["refresh_token"], resource="https://b.example/")
    assert refused["error"] == IT
    assert (await world["web"].refresh(one["refresh_token"], scope="write"))["error"] == IS
    assert await world.workspace.sequence() == before
    first, second = [await world["web"].refresh(tokens["refresh_token"], key="k") for tokens in (one, two)]
    assert "error" not in first | second
    assert claims(first["access_token"])["sid"] != claims(second["access_token"])["sid"]


async def test_an_expired_credential(world: World) -> None:
    """`invalid_grant` for a refresh token, `invalid_request` for a subject token, success for revocation."""
    brief = world["brief"]
    tokens = await brief.issue()
    async with asyncio.timeout(5):
        while any([await brief.active(tokens[kind]) for kind in ("access_token", "refresh_token")]):
            await asyncio.sleep(0.05)
    before = await world.workspace.sequence()
    assert (await brief.refresh(tokens["refresh_token"], key="k"))["error"] == IG
    assert (await world["orders"].ask("token", swap(tokens["access_token"]), seconds=1))["error"] == IR
    assert await world.workspace.sequence() == before
    for _ in range(2):  # once it is written all the same: another replica's clock may call the token alive
        assert await brief.ask("revoke", {"token": tokens["access_token"]}, seconds=1) == {}
    assert await world.workspace.sequence() == before + 1


USED_TWICE: dict[str, tuple[str, list[str]]] = {
    "refresh_token": ("reuse_detected", ["TokenReuseDetected", "FamilyRevoked"]),
    "authorization_code": ("code_reuse", ["TokenReuseDetected", "FamilyRevoked"]),
}


@pytest.mark.parametrize("name", USED_TWICE)
async def test_a_credential_used_twice(world: World, name: str) -> None:
    """`invalid_grant`, after one commit of just these two events; CONTRACT §3.5: and boundedly many ever after."""
    reason, events = USED_TWICE[name]
    kind = KINDS[name]
    request = await kind.good(world)
    caller = world[kind.client_id]
    tokens = await caller.ask(kind.endpoint, request)
    family = claims(tokens["access_token"])["sid"]
    history, before = await world.workspace.timeline(family), await world.workspace.sequence()
    await _refused(world, kind, request, IG)
    assert await world.workspace.sequence() == before + 1
    assert await world.workspace.timeline(family) == history + events
    assert (await world.workspace.reasons(client_id=kind.client_id, limit=1)) == [reason]
    for _ in range(12):
        await _refused(world, kind, request, IG)
    assert await world.workspace.sequence() <= before + 1 + 3


async def test_a_device_code_used_twice(world: World) -> None:
    """`invalid_grant`, and nothing is written: a device polls again where an answer was lost (RFC 8628 §3.5)."""
    kind = KINDS["device_code"]
    request = await kind.good(world)
    tokens = await world[kind.client_id].ask(kind.endpoint, request)
    before = await world.workspace.sequence()
    for _ in range(3):
        await _refused(world, kind, request, IG)
    assert await world.workspace.sequence() == before
    assert await world[kind.client_id].active(tokens["access_token"])


async def test_a_subject_token_used_twice(world: World) -> None:
    """May be: an exchange uses nothing up (RFC 8693 §2.1); each gives a token of its own."""
    request = await _exchanging(world)
    answers = [await world["orders"].ask("token", request, seconds=1) for _ in range(2)]
    assert len({claims(answer["access_token"])["jti"] for answer in answers}) == 2


async def test_a_user_code_used_twice(world: World) -> None:
    """The second answer is `invalid_grant`, whatever it says, and the first stands."""
    approval = await _approving(world)
    assert await world["login"].ask("authorize", approval) == {}
    before = await world.workspace.sequence()
    for changes in ({}, {"approved": False}, {"sub": "mallory"}):
        assert (await world["login"].ask("authorize", approval | changes, seconds=1))["error"] == IG
    assert await world.workspace.sequence() == before
