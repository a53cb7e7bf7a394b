"""Each endpoint refuses bad parameters: with the RFC's error, nothing written, and nothing consumed.

Which parameters repeat and what type each has is tested in `tests/service/endpoints/test_parameters.py`. A parameter of
null has no value, and counts as left out (RFC 6749 §3.2).
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from tests.system.service import Caller, Service
from tests.system.workspace import (
    ACCESS_TOKEN,
    CHALLENGE,
    DEVICE,
    REDIRECT,
    SCOPE,
    Clients,
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
TARGET = "https://a.example/"
TARGETS = [TARGET + f"{number:02}".rjust(512 - len(TARGET), "x") for number in range(16)]
CLIENTS: dict[str, dict[str, Any]] = {
    "web": {"audiences": ["*"]},
    "app": {},
    "television": {"grant_types": [DEVICE], "audiences": ["*"]},
    "orders": {"audiences": [TARGET, "stock"], "may_exchange": ["web"]},
    "login": {},
}


class World:
    """A tenant with a client for every endpoint, connected once for all tests."""

    def __init__(self, workspace: Workspace, clients: Clients) -> None:
        self.workspace, self._clients = workspace, clients

    def __getitem__(self, client_id: str) -> Caller:
        return self._clients[client_id]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(service: Service) -> AsyncIterator[World]:
    async with made(service) as workspace, AsyncExitStack() as stack:
        clients = Clients(workspace, stack)
        for client_id, settings in CLIENTS.items():
            await clients(client_id, **settings)
        yield World(workspace, clients)


class Parameter(NamedTuple):
    """The error of a request without it, None for an optional one; values beyond its limits, and their errors."""

    missing: str | None
    too_long: tuple[tuple[Any, str], ...] = ()


class Kind(NamedTuple):
    """A kind of request: who sends it where, how a good one is made, and its parameters."""

    endpoint: str
    client_id: str
    good: Callable[[World], Awaitable[dict[str, Any]]]
    parameters: dict[str, Parameter]


def required(error: str = "invalid_request", *values: Any, missing: str = "invalid_request") -> Parameter:
    """A parameter that must be there; `error` answers these values, or else one that is huge."""
    return Parameter(missing, tuple((value, error) for value in values or (HUGE,)))


def optional(error: str, *values: Any) -> Parameter:
    """A parameter that may be left out; `error` answers these values."""
    return Parameter(None, tuple((value, error) for value in values))


TOKEN = {"grant_type": required("unsupported_grant_type")}
GRANTED = {
    "scope": optional("invalid_scope", "read " * 410 + "read", "x" * 2049),
    "resource": optional("invalid_target", TARGET + "x" * 512, [f"{TARGET}{number}" for number in range(17)], []),
}
PERSON = {
    "sub": required("invalid_request", "x" * 256, HUGE),
    "acr": optional("invalid_request", "x" * 256),
    "amr": optional("invalid_request", ["x"] * 17, ["x" * 256], [""]),
    "auth_time": optional("invalid_request", 1 << 40, 1 << 70),
    "nonce": optional("invalid_request", "x" * 513),
}
ABOUT_A_TOKEN = {"token": Parameter("invalid_request"), "token_type_hint": optional("")}


async def _refreshing(world: World) -> dict[str, Any]:
    token = (await world["web"].issue())["refresh_token"]
    return {"grant_type": "refresh_token", "refresh_token": token, "scope": "read", "resource": world.workspace.issuer}


async def _redeeming(world: World) -> dict[str, Any]:
    return redemption(await code_for(world["login"], "app"))


async def _for_itself(_world: World) -> dict[str, Any]:
    return {"grant_type": "client_credentials", "scope": "read", "resource": TARGET}


async def _polling(world: World) -> dict[str, Any]:
    return poll(await device_code(world["television"], world["login"]))


async def _exchanging(world: World) -> dict[str, Any]:
    token = (await world["web"].issue())["access_token"]
    return swap(token, scope="read", resource=TARGET, audience="stock", requested_token_type=ACCESS_TOKEN)


async def _issuing(_world: World) -> dict[str, Any]:
    person = {"sub": "alice", "acr": "mfa", "amr": ["pwd"], "auth_time": 1, "nonce": "n"}
    return person | {"scope": SCOPE, "resource": TARGET}


async def _authorizing(world: World) -> dict[str, Any]:
    code = {"client_id": "app", "redirect_uri": REDIRECT, "code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    return await _issuing(world) | code


async def _approving(world: World) -> dict[str, Any]:
    started = await world["television"].ask("device_authorization", {"resource": TARGET})
    return await _issuing(world) | {"user_code": started["user_code"], "approved": True}


async def _starting(_world: World) -> dict[str, Any]:
    return {"scope": "read", "resource": TARGET}


async def _about_a_token(world: World) -> dict[str, Any]:
    return {"token": (await world["web"].issue())["refresh_token"], "token_type_hint": "refresh_token"}


KINDS: dict[str, Kind] = {
    "refresh_token": Kind("token", "web", _refreshing, TOKEN | GRANTED | {"refresh_token": required("invalid_grant")}),
    "authorization_code": Kind(
        "token",
        "app",
        _redeeming,
        TOKEN
        | {
            "code": required("invalid_grant"),
            "redirect_uri": required("invalid_grant", REDIRECT + HUGE, missing="invalid_grant"),
            "code_verifier": required("invalid_request", "v" * 129, HUGE),
        },
    ),
    "client_credentials": Kind("token", "web", _for_itself, TOKEN | GRANTED),
    "device_code": Kind("token", "television", _polling, TOKEN | {"device_code": required("invalid_grant")}),
    "token_exchange": Kind(
        "token",
        "orders",
        _exchanging,
        TOKEN
        | GRANTED
        | {
            "subject_token": required(),
            "subject_token_type": required(),
            "requested_token_type": optional("invalid_request", HUGE),
            "audience": optional("invalid_target", "x" * 513, ["x"] * 17),
        },
    ),
    "issue": Kind("issue", "web", _issuing, PERSON | GRANTED),
    "authorize": Kind(
        "authorize",
        "login",
        _authorizing,
        PERSON
        | GRANTED
        | {
            "client_id": required("invalid_request", "x" * 65, HUGE),
            "redirect_uri": optional("invalid_request", f"{REDIRECT}?{'x' * 2048}"),
            "code_challenge": required("invalid_request", "v" * 44, HUGE),
            "code_challenge_method": required(),
        },
    ),
    "approve": Kind(
        "authorize",
        "login",
        _approving,
        PERSON
        | GRANTED
        | {"user_code": required("invalid_request", "B" * 9, HUGE), "approved": Parameter("invalid_request")},
    ),
    "device_authorization": Kind("device_authorization", "television", _starting, GRANTED),
    "revoke": Kind("revoke", "web", _about_a_token, ABOUT_A_TOKEN),
    "introspect": Kind("introspect", "web", _about_a_token, ABOUT_A_TOKEN),
}


def _bad(kind: Kind, good: dict[str, Any]) -> list[tuple[dict[str, Any] | bytes, str]]:
    """Every bad request that is made of a good one, and its error."""
    found: list[tuple[dict[str, Any] | bytes, str]] = []
    for name, parameter in kind.parameters.items():
        rest = _without(good, name)
        if name == "user_code":
            rest |= {"client_id": "app"}  # without it, this would be the request of another kind
        found += [(good | {name: value}, error) for value, error in parameter.too_long]
        found += [(good | {name: {"x": "y"}}, "invalid_request")]
        found += [(f'{{"{name}": null, {json.dumps(good)[1:]}'.encode(), "invalid_request")]
        if parameter.missing is not None:
            found += [(rest, parameter.missing), (rest | {name: None}, parameter.missing)]
    room = MAX_BODY - len(json.dumps(good | {"unknown": ""}))
    return [*found, (good | {"unknown": "x" * (room + 1)}, "invalid_request")]


async def _refused(world: World, kind: Kind, body: dict[str, Any] | bytes, error: str) -> None:
    """That error within a second."""
    answer = await world[kind.client_id].ask(kind.endpoint, body, seconds=1)
    assert answer.get("error") == error, (str(body)[:300], answer)


async def _accepted(world: World, kind: Kind, body: dict[str, Any]) -> None:
    answer = await world[kind.client_id].ask(kind.endpoint, body, seconds=1)
    assert "error" not in answer, answer


def _without(request: dict[str, Any], name: str) -> dict[str, Any]:
    return {known: value for known, value in request.items() if known != name}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_bad_parameters(world: World, kind: Kind) -> None:
    """Missing, null, repeated, of a wrong type, beyond a limit, and a request of more than 16 KiB."""
    good = await kind.good(world)
    before = await world.workspace.sequence()
    for body, error in _bad(kind, good):
        await _refused(world, kind, body, error)
    assert await world.workspace.sequence() == before
    room = MAX_BODY - len(json.dumps(good | {"unknown": ""}))
    await _accepted(world, kind, good | {"unknown": "x" * room})


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_optional_parameters(world: World, kind: Kind) -> None:
    """Each may be left out or null."""
    for name, parameter in kind.parameters.items():
        if parameter.missing is None:
            await _accepted(world, kind, _without(await kind.good(world), name))
            await _accepted(world, kind, await kind.good(world) | {name: None})


async def test_a_huge_token_or_hint(world: World) -> None:
    """RFC 7009 §2.2, RFC 7662 §2.2: a token too long to be one is unknown; a hint is only a hint."""
    web = world["web"]
    assert await web.ask("revoke", {"token": HUGE}, seconds=1) == {}
    assert await web.ask("introspect", {"token": HUGE}, seconds=1) == {"active": False}
    for kind in ("introspect", "revoke"):
        await _accepted(world, KINDS[kind], await _about_a_token(world) | {"token_type_hint": HUGE})


async def test_values_of_just_the_longest(world: World) -> None:
    """CONTRACT §2: every limit is the last good value; the largest token that is issued is accepted everywhere."""
    longest = {"sub": "s" * 255, "acr": "a" * 255, "amr": ["m" * 100] * 16, "auth_time": (1 << 40) - 1}
    longest |= {"nonce": "n" * 512, "resource": TARGETS[:3], "scope": SCOPE}
    tokens = await world["web"].ask("issue", longest, seconds=1)
    assert "error" not in tokens, tokens
    told = claims((await world["web"].refresh(tokens["refresh_token"]))["access_token"])
    assert {name: told[name] for name in ("sub", "acr", "amr", "auth_time")} == {
        name: longest[name] for name in ("sub", "acr", "amr", "auth_time")
    }
    assert told["aud"] == TARGETS[:3]
    exchanged = (await world["orders"].ask("token", swap(tokens["access_token"]), seconds=1))["access_token"]
    for token in (tokens["access_token"], exchanged):
        assert len(token) < 8192 and await world["orders"].active(token)
    assert await world["web"].ask("revoke", {"token": tokens["access_token"]}, seconds=1) == {}
    assert not await world["orders"].active(exchanged), "it ends with its subject token"


@pytest.mark.parametrize("kind", ["issue", "authorize", "approve", "device_authorization", "client_credentials"])
async def test_a_grant_that_no_token_would_hold(world: World, kind: str) -> None:
    """CONTRACT §2: values that are good one by one are `invalid_request` where one token could not hold them all."""
    good = await KINDS[kind].good(world)
    large = {"acr": "a" * 255, "amr": ["m" * 255] * 16} if kind == "approve" else {"resource": TARGETS}
    before = await world.workspace.sequence()
    await _refused(world, KINDS[kind], good | large, "invalid_request")
    assert await world.workspace.sequence() == before
    await _accepted(world, KINDS[kind], good)


@pytest.mark.parametrize("name", ["refresh_token", "authorization_code", "device_code"])
@pytest.mark.parametrize("key", ["", "x" * 256, "not visible"], ids=["empty", "over-long", "with a space"])
async def test_a_bad_idempotency_key(world: World, name: str, key: str) -> None:
    """CONTRACT §2: `invalid_request`, and nothing is consumed; the longest good key is accepted."""
    kind = KINDS[name]
    good = await kind.good(world)
    before = await world.workspace.sequence()
    answer = await world[kind.client_id].ask(kind.endpoint, good, key=key, seconds=1)
    assert answer["error"] == "invalid_request"
    assert await world.workspace.sequence() == before
    assert "access_token" in await world[kind.client_id].ask(kind.endpoint, good, key="x" * 255)


async def test_a_parameter_without_a_value_is_left_out(world: World) -> None:
    """RFC 6749 §3.2: an optional one is ignored, a required one is missing."""
    web, orders = world["web"], world["orders"]
    first = await web.ask("issue", {"sub": "alice", "scope": "", "resource": "", "acr": "", "nonce": ""})
    assert first["scope"] == SCOPE
    second = await web.refresh(first["refresh_token"], scope="", resource="")
    assert second["scope"] == SCOPE
    swapped = swap(second["access_token"], scope="", resource="", audience="", requested_token_type="", actor_token="")
    assert claims((await orders.ask("token", swapped))["access_token"])["aud"] == "orders"
    code = await code_for(world["login"], "app", user_code="", scope="")
    assert "access_token" in await world["app"].ask("token", redemption(code))
    assert (await web.ask("issue", {"sub": ""}))["error"] == "invalid_request"


@pytest.mark.parametrize("kind", ["refresh_token", "issue", "introspect", "revoke", "device_authorization"])
async def test_a_client_id_in_the_body_is_the_callers(world: World, kind: str) -> None:
    """RFC 6749 §3.2.1: another client's is `invalid_client`; its own changes nothing."""
    good, before = await KINDS[kind].good(world), await world.workspace.sequence()
    await _refused(world, KINDS[kind], good | {"client_id": "orders"}, "invalid_client")
    assert await world.workspace.sequence() == before
    await _accepted(world, KINDS[kind], good | {"client_id": KINDS[kind].client_id})
