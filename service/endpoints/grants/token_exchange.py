"""`urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693): a service gets a narrower token in its own name."""

from datetime import datetime

from service import clock
from service.access_tokens.issued_token import Exchanged
from service.access_tokens.recognise import audience_today, recognise
from service.access_tokens.token_response import ACCESS_TOKEN, token_response
from service.context import Caller, Context
from service.decide.access_token_claims import AccessTokenClaims
from service.decide.decision import Decision
from service.decide.policy import ANY
from service.decide.scope import MAX_RESOURCE_CHARACTERS, MAX_RESOURCES, check_audience, is_audience, parse_resources
from service.decide.token_exchange import Exchange, exchange, invalid_subject_token
from service.endpoints.grants.token_request import TokenRequest
from service.errors import OAuthError
from service.families.cache import LoadedFamily
from service.registry.tenant import Client, Tenant
from service.request import Request, check_text, required

JWT = "urn:ietf:params:oauth:token-type:jwt"
MAX_ACTORS = 8


async def handle(caller: Caller, _request: Request, parameters: TokenRequest) -> bytes:
    """A token response with `issued_token_type`, and never a refresh token. The new token ends with the family.

    Raises `unauthorized_client`, `invalid_request`, `invalid_scope`, `invalid_target`.
    """
    context, tenant, client = caller.context, caller.tenant, caller.client
    if client.rules.token_endpoint_auth_method == "none":
        raise OAuthError("unauthorized_client", "a public client proves nothing, so it may exchange nothing")
    subject = await recognise(context, tenant, _subject_token(parameters))
    if subject is None:
        raise invalid_subject_token()
    claims = subject.claims
    subject_audience = await audience_today(context, tenant, claims)
    if not subject_audience:
        raise invalid_subject_token()
    act = (client.client_id, *claims.actors)
    if len(act) > MAX_ACTORS:
        raise OAuthError("invalid_request", f"a token passes through at most {MAX_ACTORS} actors")
    audience, expires_at = _audience(client, parameters), clock.of(claims.exp)
    own = (name for name in client.state.settings.audiences or () if name not in (ANY, tenant.issuer))
    known_as = client.client_id, *own
    owner_scope = await _owner_scope(context, tenant, claims)

    def decide(loaded: LoadedFamily, now: datetime, commit_id: str) -> Decision:
        command = Exchange(
            now=now,
            rules=client.rules,
            client_id=client.client_id,
            known_as=known_as,
            subject_token=subject,
            subject_audience=subject_audience,
            subject_expires_at=expires_at,
            owner_scope=owner_scope,
            scope=parameters.scope,
            audience=audience,
            act=act,
            jti=commit_id,
        )
        return exchange(loaded.state, command)

    committed = await context.families.decide(tenant.name, claims.sid, caller.actor, decide)
    exchanged = Exchanged(act, (claims.jti, *claims.exchanged_from))
    return await token_response(caller, committed, exchanged=exchanged)


def _subject_token(parameters: TokenRequest) -> str:
    """The token to exchange. Raises `invalid_request` for a missing one, and for types that are not supported."""
    token = required(parameters.subject_token, "subject_token")
    if required(parameters.subject_token_type, "subject_token_type") not in (ACCESS_TOKEN, JWT):
        raise OAuthError("invalid_request", f"subject_token_type must be {ACCESS_TOKEN}")
    if parameters.requested_token_type not in (None, ACCESS_TOKEN):
        raise OAuthError("invalid_request", f"requested_token_type must be {ACCESS_TOKEN}")
    if parameters.actor_token is not None:
        raise OAuthError("invalid_request", "actor_token is not supported: the actor is the client that asks")
    return token


async def _owner_scope(context: Context, tenant: Tenant, claims: AccessTokenClaims) -> str:
    """The scope that the family's client is registered for today; that client never changes. Raises `Unavailable`."""
    client_id = claims.client_id
    if claims.actors:  # it was exchanged before, so its holder is another client
        state = (await context.families.load(tenant.name, claims.sid)).state
        client_id = state.client_id if state is not None else ""
    owner = await context.registry.client(tenant, client_id)
    return owner.rules.scope if owner is not None else ""


def _audience(client: Client, parameters: TokenRequest) -> tuple[str, ...]:
    """`resource` and `audience` together (RFC 8693 §2.1); the caller itself where neither is given.

    Raises `invalid_target`, and `invalid_request` for a token among them.
    """
    resources = parse_resources(parameters.resource) or ()
    named = parameters.audience
    audience = (named,) if isinstance(named, str) else named or ()
    if len(audience) > MAX_RESOURCES or ANY in audience or not all(is_audience(name) for name in audience):
        raise OAuthError(
            "invalid_target",
            f"audience must name at most {MAX_RESOURCES} targets of at most {MAX_RESOURCE_CHARACTERS} characters",
        )
    for name in audience:
        check_text(name, "audience")
    wanted = tuple(dict.fromkeys((*resources, *audience))) or (client.client_id,)
    check_audience(wanted, (*client.rules.audiences, client.client_id))
    return wanted
