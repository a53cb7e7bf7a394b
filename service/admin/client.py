"""`admin.<tenant>.client.…`: a client's registration (RFC 7591 names), its disabling and its enabling."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates.settings import ClientSettings
from events.log.stored_message import StoredMessage
from service import clock
from service.admin import replies
from service.admin.await_effect import newest_with, reply_when_complete, wait_until_effective
from service.admin.change_and_apply import change_and_apply
from service.admin.parameters import known_client, reason_of
from service.clients.authentication import WITH_SECRET
from service.context import AdminContext
from service.decide.client import Enable, GetsSecret, Register, register
from service.decide.client import enable as enabled
from service.decide.policy import resolve
from service.errors import OAuthError
from service.keys.generated_secret import digest, new_secret
from service.registry.parse_settings import for_client
from service.request import decode, required

_decoder = msgspec.json.Decoder(dict[str, Any])

CLOCKS_APART_SECONDS = 0.25
"""More than two replicas' measurements of the broker's time differ. Void and valid tokens are told apart by `iat`."""


class ClientPutRequest(ClientSettings, frozen=True, kw_only=True):
    """The parameters of `put`: the settings, each of which is parsed by itself so that every fault is named."""

    client_id: str
    generate_secret: bool = True
    rotate_secret: bool = False


async def put(context: AdminContext, tenant_name: str, body: bytes) -> bytes:
    """`{seq, changed}`, and `client_secret` when one was made: it is shown this once, and only a digest is stored.

    The registration is replaced as a whole; the same one again writes nothing. `generate_secret` (default true) makes
    a secret for a client that needs one and has none; `rotate_secret` makes a new one, and the old one is void.
    """
    given = decode(body, _decoder)
    client_id = given.pop("client_id", None)
    generate, rotate = _flag(given, "generate_secret", True), _flag(given, "rotate_secret", False)
    if not isinstance(client_id, str) or not aggregate_names.CLIENT_ID.fullmatch(client_id):
        raise OAuthError("invalid_request", "client_id must be [A-Za-z0-9_-]{1,64}")
    tenant = await context.registry.tenant(tenant_name)
    if tenant is None:
        raise OAuthError("invalid_request", "there is no such tenant; put the tenant first")
    settings = for_client(given, tenant.settings)
    method = resolve(tenant.settings, settings).token_endpoint_auth_method
    if rotate and method not in WITH_SECRET:
        raise OAuthError("invalid_request", f"rotate_secret: a client with {method} has no secret")
    secret = new_secret()
    if_missing: GetsSecret = "if_missing" if generate and method in WITH_SECRET else "never"
    command = Register(settings, digest(secret), "always" if rotate else if_missing)

    aggregate = aggregate_names.client(tenant_name, client_id)
    decide = partial(register, command=command)
    written = await change_and_apply(context, aggregate, decide)
    await wait_until_effective(context, written.stored)
    is_stored = client_events.codec.decode(written.stored.body).state.secret_hash == command.secret_hash
    shown = secret if is_stored else UNSET
    return msgspec.json.encode(replies.ClientPut(written.stored.seq, written.changed, shown))


class ClientRequest(msgspec.Struct, frozen=True):
    """The parameters of `disable` and `enable`; `reason` is in the operator's own words."""

    client_id: str | None = None
    reason: str | None = None


_client_decoder = msgspec.json.Decoder(ClientRequest)


async def disable(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, revoked_families}`: the client gets no more tokens, and those that it holds are void.

    Raises `invalid_request`, `temporarily_unavailable`, and `Unavailable`.
    """
    asked = await _asked(context, tenant, body)

    def decide(state: client_events.ClientState) -> tuple[client_events.ClientEvent, ...]:
        return () if state.disabled else (client_events.ClientDisabled(asked.reason, clock.now()),)

    stored = await _switch(context, asked.aggregate, decide)
    return await reply_when_complete(context, stored, client_events.ClientDisabled)


async def enable(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, revoked_families}`, the latter 0: the client may get tokens again; those that are void stay void.

    Waits until an earlier disabling is complete: until then the client may get tokens that must be void too. Raises
    as `disable`.
    """
    asked = await _asked(context, tenant, body)
    seen = await _once_complete(context, asked.aggregate)
    void_until = await _second_over() if seen.disabled else clock.now()

    def decide(state: client_events.ClientState) -> tuple[client_events.ClientEvent, ...]:
        return enabled(state, Enable(seen, void_until, asked.reason))

    stored = await _switch(context, asked.aggregate, decide)
    return await reply_when_complete(context, stored, client_events.ClientEnabled)


class _Asked(NamedTuple):
    aggregate: aggregate_names.Aggregate
    reason: str | None


async def _asked(context: AdminContext, tenant: str, body: bytes) -> _Asked:
    """The parameters, checked. Raises `invalid_request` if there is no such client."""
    parameters = decode(body, _client_decoder)
    client_id = required(parameters.client_id, "client_id")
    reason = reason_of(parameters.reason)
    await known_client(context, tenant, client_id)
    return _Asked(aggregate_names.client(tenant, client_id), reason)


async def _once_complete(context: AdminContext, aggregate: aggregate_names.Aggregate) -> client_events.ClientState:
    """The client's state in the log; of a disabled client only once its disabling is complete on every replica.

    Raises `temporarily_unavailable` when that takes too long, and `Unavailable`.
    """
    head = await context.log.head(aggregate)
    if head.commit is None:
        return client_events.ClientState()
    state: client_events.ClientState = head.commit.state
    disabling = await newest_with(context, head.stored, client_events.ClientDisabled) if state.disabled else None
    if disabling is not None and not await context.completed.wait(disabling.seq):
        raise OAuthError(
            "temporarily_unavailable",
            f"the client is still being disabled (sequence {disabling.seq}); repeat the command when that is complete",
        )
    return state


async def _second_over() -> datetime:
    """Wait until the current second is over by every replica's clock, and return its last microsecond.

    An `iat` has whole seconds. Raises `temporarily_unavailable` when the clock was set back meanwhile.
    """
    apart = timedelta(seconds=CLOCKS_APART_SECONDS)
    began = clock.now()
    over = (began + apart).replace(microsecond=0) + timedelta(seconds=1)
    await asyncio.sleep((over + apart - began).total_seconds())
    if clock.now() < over:
        raise OAuthError("temporarily_unavailable", "the clock was set back meanwhile; repeat the command")
    return over - timedelta(microseconds=1)


async def _switch(
    context: AdminContext,
    aggregate: aggregate_names.Aggregate,
    decide: Callable[[client_events.ClientState], tuple[client_events.ClientEvent, ...]],
) -> StoredMessage:
    def decide_known(state: client_events.ClientState | None) -> tuple[client_events.ClientEvent, ...]:
        return decide(state) if state is not None else ()

    return (await change_and_apply(context, aggregate, decide_known)).stored


def _flag(given: dict[str, Any], name: str, default: bool) -> bool:
    value = given.pop(name, default)
    if not isinstance(value, bool):
        raise OAuthError("invalid_request", f"{name} must be true or false")
    return value
