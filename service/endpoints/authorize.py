"""`authorize`: a trusted login service reports what a person granted (RFC 6749 §4.1.1, RFC 8628 §3.3).

For an app, `{client_id, sub, …}` returns a code. For a device, `{user_code, sub, approved}` is the person's answer.
"""

import re
from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from events.aggregates.family_events import DeviceAuthorizationStarted, GrantAuthorized
from service import clock
from service.context import Caller, Context
from service.decide.authorization_code import CODE_SECONDS, Authorize, authorize
from service.decide.decision import Decision, invalid_grant
from service.decide.device_authorization import AnswerDevice, answer_device, still_may
from service.decide.scope import REGISTERED, audience_of, narrow, parse_resources
from service.endpoints.end_user import Person, PersonRequest, person_of
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.keys.mac_tokens import new_id, new_seed
from service.keys.user_code import family_of
from service.registry.tenant import Client
from service.request import Request, at_most, parameters_of, required
from service.uri import MAX_URI_CHARACTERS, parse

_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


class AuthorizeRequest(PersonRequest, frozen=True):
    """The parameters of RFC 6749 §4.1.1 and RFC 7636 §4.3, or of RFC 8628 §3.3."""

    client_id: str | None = None
    scope: str | None = None
    resource: str | tuple[str, ...] | None = None
    redirect_uri: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None
    user_code: str | None = None
    approved: bool | None = None


class AuthorizeResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """An authorization code, and its seconds; neither where a device was answered."""

    code: str | UnsetType = UNSET
    expires_in: int | UnsetType = UNSET


_decoder = msgspec.json.Decoder(AuthorizeRequest)


async def handle(context: Context, request: Request) -> bytes:
    """`{code, expires_in}` (seconds); for a device `{}`.

    Raises `unauthorized_client`, `invalid_request`, `invalid_scope`, `invalid_target`; for a device also
    `invalid_grant`, and `slow_down` after too many wrong user codes.
    """
    parameters = parameters_of(request, _decoder, client_id_is_anothers=True)
    caller = await context.caller(request.tenant, request.client_id)
    if not caller.client.rules.may_authorize:
        raise OAuthError("unauthorized_client", "this client may not authorize; an operator sets may_authorize")
    person = person_of(parameters)
    if parameters.user_code is not None:
        return await _answer_device(caller, parameters, person)
    client = await context.registry.client(caller.tenant, required(parameters.client_id, "client_id"))
    if client is None or client.state.disabled:
        raise OAuthError("invalid_request", "the parameter client_id names no client of this tenant")
    if "authorization_code" not in client.rules.grant_types:
        raise OAuthError("unauthorized_client", "that client is not registered for authorization_code")
    if client.rules.gives_codes_to_anybody:
        raise OAuthError("unauthorized_client", "that client is public, and has registered no redirect_uris")
    return await _give_code(caller, client, parameters, person)


async def _give_code(caller: Caller, client: Client, parameters: AuthorizeRequest, person: Person) -> bytes:
    """Append a family that begins with an authorization code for `client`; the caller has authenticated the person."""
    context, tenant = caller.context, caller.tenant
    family_id, seed = new_id(), new_seed()
    grant = GrantAuthorized(
        client_id=client.client_id,
        sub=person.sub,
        scope=narrow(parameters.scope, client.rules.scope, REGISTERED),
        audience=audience_of(parameters.resource, client.rules.audiences),
        grant="authorization_code",
        seed=seed,
        acr=person.acr,
        amr=person.amr,
        auth_time=person.auth_time,
    )
    challenge = _challenge(parameters)
    redirect_uri = _redirect_uri(client, parameters.redirect_uri)

    def decide(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
        return authorize(loaded.state, Authorize(now, grant, challenge, redirect_uri, person.nonce))

    committed = await context.families.decide(tenant.name, family_id, caller.actor, decide, new=True)
    committed.or_raise()
    code = tenant.codes.mint(tenant.mac_key, family_id, 0, seed)
    return msgspec.json.encode(AuthorizeResponse(code, CODE_SECONDS))


async def _answer_device(caller: Caller, parameters: AuthorizeRequest, person: Person) -> bytes:
    """Count the answer before its user code is looked up, and take it back unless the code is wrong (RFC 8628 §5.1).

    An answer for which the log was unavailable is no guess.
    """
    context, tenant = caller.context, caller.tenant.name
    family_id = family_of(context.keyring, tenant, parameters.user_code or "")
    if family_id is None or parameters.approved is None:
        raise OAuthError("invalid_request", "user_code must be as shown on the device, and approved true or false")
    resource = parse_resources(parameters.resource)
    asked = AnswerDevice(
        now=clock.now(),
        waiting=None,
        approved=parameters.approved,
        sub=person.sub,
        scope=parameters.scope,
        resource=resource,
        acr=person.acr,
        amr=person.amr,
        auth_time=person.auth_time,
    )
    number = await context.devices.guesses.count(tenant, caller.client.client_id, person.sub)
    is_guess = False
    try:
        await answer(caller, family_id, asked)
    except OAuthError as refusal:
        is_guess = refusal.code == "invalid_grant"
        raise
    finally:
        if not is_guess:
            await context.devices.guesses.take_back(number)
    return msgspec.json.encode(AuthorizeResponse())


async def answer(caller: Caller, family_id: str, asked: AnswerDevice) -> None:
    """Append the person's answer, with what the device asked for; from then on it does not wait any more.

    Raises `invalid_grant` where no device waits, `invalid_scope` and `invalid_target` for more than it asked for, and
    `Unavailable`.
    """
    context, tenant = caller.context, caller.tenant.name
    waiting = await context.devices.waiting.find(tenant, family_id)
    if waiting is not None and not await _still_may(context, tenant, waiting):
        raise invalid_grant().error

    def decide(loaded: LoadedFamily, now: datetime, _id: str) -> Decision:
        return answer_device(loaded.state, asked._replace(now=now, waiting=waiting))

    committed = await context.families.decide(tenant, family_id, caller.actor, decide)
    committed.or_raise()
    if waiting is not None:
        await context.devices.waiting.remove(tenant, family_id, waiting.client_id)


async def _still_may(context: Context, tenant_name: str, waiting: DeviceAuthorizationStarted) -> bool:
    """Whether the device's client may still have what it requested."""
    tenant = await context.registry.tenant(tenant_name)
    client = await context.registry.client(tenant, waiting.client_id) if tenant is not None else None
    return (
        client is not None and not client.state.disabled and still_may(waiting, client.rules, client.state.void_until)
    )


def _challenge(parameters: AuthorizeRequest) -> str:
    """The code challenge (RFC 7636 §4.3). Raises `invalid_request`, also for the method `plain`: it protects nobody."""
    challenge = required(parameters.code_challenge, "code_challenge")
    if parameters.code_challenge_method != "S256":
        raise OAuthError("invalid_request", "code_challenge_method must be S256")
    if not _CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "code_challenge must be 43 characters of base64url")
    return challenge


def _redirect_uri(client: Client, given: str | None) -> str | None:
    """The redirect URI: a registered one, to the letter (RFC 6749 §3.1.2.3). Raises `invalid_request`.

    It may be left out where the client has registered at most one.
    """
    registered = client.rules.redirect_uris
    if given is None:
        if len(registered) > 1:
            raise OAuthError("invalid_request", "redirect_uri must be named: the client has registered several")
        return None
    at_most(given, MAX_URI_CHARACTERS, "redirect_uri")
    if given not in registered and not any(_same_loopback(given, uri) for uri in registered):
        raise OAuthError("invalid_request", "redirect_uri is not one the client has registered")
    return given


def _same_loopback(given: str, registered: str) -> bool:
    """Whether both are the same but for the port: an app listens on whichever port is free (RFC 8252 §7.3)."""
    theirs, ours = parse(given), parse(registered)
    return theirs is not None and ours is not None and theirs.is_same_loopback(ours)
