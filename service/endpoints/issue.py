"""`issue`: tokens for a person whom the caller has authenticated itself (CONTRACT §2).

This is how a first-party login works here: there is no password grant (RFC 9700 §2.4).
"""

from datetime import datetime
from functools import partial

import msgspec

from events.family import FamilyState
from service import clock
from service.context import Context
from service.decide.issue import Issue, issue
from service.decide.outcome import Decision, Granted, Refused
from service.errors import OAuthError
from service.policy import Rules
from service.registry import Client, Tenant
from service.request import Request, at_most, decode, required
from service.response import token_response
from service.scope import narrow, parse_resources
from service.tokens import new_id, new_seed

MAX_SUB = 255
MAX_ACR = 255
MAX_AMR = 16


class IssueRequest(msgspec.Struct, frozen=True):
    """`auth_time` is a NumericDate (OpenID Connect Core §2)."""

    sub: str | None = None
    scope: str | None = None
    resource: str | tuple[str, ...] | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: int | None = None
    nonce: str | None = None


_decoder = msgspec.json.Decoder(IssueRequest)


async def handle(context: Context, request: Request) -> bytes:
    """A token response (RFC 6749 §5.1)."""
    parameters = decode(request.body, _decoder)
    tenant, client = await context.caller(request.tenant, request.client_id)
    if not client.rules.may_issue:
        raise OAuthError("unauthorized_client", "this client may not issue; an operator sets may_issue")
    command = partial(
        Issue,
        rules=client.rules,
        client_id=client.client_id,
        sub=subject_of(parameters.sub),
        scope=narrow(parameters.scope, client.rules.scope),
        audience=parse_resources(parameters.resource) or (tenant.issuer,),
        grant="issue",
        acr=at_most(parameters.acr, MAX_ACR, "acr"),
        amr=methods_of(parameters.amr),
        auth_time=parameters.auth_time,
    )
    return await open_family(context, tenant, client, request.actor, command)


async def open_family(context: Context, tenant: Tenant, client: Client, actor: str, command: "partial[Issue]") -> bytes:
    """Decide the issue, write it, and mint what was granted."""
    family_id, seed = new_id(), new_seed()

    def decide(state: FamilyState | None, now: datetime, commit_id: str) -> Decision:
        return issue(state, command(now=now, jti=commit_id, seed=seed, key=context.keyring.current))

    concluded = await context.families.decide(tenant.name, family_id, actor, decide, new=True)
    match concluded.outcome, concluded.state:
        case Granted() as granted, FamilyState() as state:
            return token_response(tenant, client, family_id, state, granted, clock.now())
        case Refused(error), _:
            raise error
        case _:
            raise OAuthError("server_error", "the decision came to nothing")


def subject_of(sub: str | None) -> str:
    """The `sub`: 1 to 255 characters (OpenID Connect Core §2), none of them a control character."""
    value = required(sub, "sub")
    at_most(value, MAX_SUB, "sub")
    if not value.isprintable():
        raise OAuthError("invalid_request", "the parameter sub has a character that cannot be printed")
    return value


def methods_of(amr: tuple[str, ...]) -> tuple[str, ...]:
    """The authentication methods (RFC 8176)."""
    if len(amr) > MAX_AMR or any(not 0 < len(method) <= MAX_ACR for method in amr):
        raise OAuthError("invalid_request", f"amr must be at most {MAX_AMR} short strings")
    return amr


__all__ = ["Rules", "handle", "open_family"]
