"""`admin.<tenant>.role.…`: credentials of a role for one tenant, each under its own name (ADR 0022)."""

from typing import get_args

import msgspec

from events.aggregates import aggregate_names
from events.aggregates.role import RoleAdded, RoleEvent, RoleKind, RoleRevoked, RoleState
from service.admin import replies
from service.admin.change_and_apply import change_and_apply
from service.admin.parameters import known_tenant, reason_of
from service.context import AdminContext
from service.errors import OAuthError
from service.keys.generated_secret import digest, new_secret
from service.registry.named_role import Holder, TenantRole
from service.request import decode, required

MAX_ROLES = 1_000
"""Names that a tenant may have, revoked ones included."""


class RoleRequest(msgspec.Struct, frozen=True):
    """The parameters of all three operations; `reason` is in the operator's own words."""

    role: str | None = None
    name: str | None = None
    reason: str | None = None


_decoder = msgspec.json.Decoder(RoleRequest)


async def add(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq, user, secret, inbox_prefix}`: the credentials of that role. The secret is shown this once.

    Raises `invalid_request` for a name in use, or one too many, and `Unavailable`.
    """
    asked = decode(body, _decoder)
    name, role = _name(asked), _role(asked)
    await known_tenant(context, tenant)
    known = await _roles(context, tenant)
    if name not in known and len(known) >= MAX_ROLES:
        raise OAuthError("invalid_request", f"a tenant has at most {MAX_ROLES} names; use a revoked one again")
    secret = new_secret()

    def decide(state: RoleState | None) -> tuple[RoleEvent, ...]:
        if state is not None and not state.revoked:
            raise OAuthError("invalid_request", "there is a role of that name; revoke it first, or choose another")
        return (RoleAdded(role, digest(secret)),)

    aggregate = aggregate_names.role(tenant, name)
    written = await change_and_apply(context, aggregate, decide)
    holder = Holder(tenant, name)
    return msgspec.json.encode(replies.RoleAdded(written.stored.seq, holder.login, secret, holder.inbox))


async def revoke(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{seq}`: nobody connects under that name any more, and its connections end within a second.

    Raises `invalid_request` for an unknown name, and `Unavailable`.
    """
    asked = decode(body, _decoder)
    name, reason = _name(asked), reason_of(asked.reason)
    await known_tenant(context, tenant)
    aggregate = aggregate_names.role(tenant, name)
    if (await context.log.head(aggregate)).stored is None:
        raise OAuthError("invalid_request", "there is no such role")

    def decide(state: RoleState | None) -> tuple[RoleEvent, ...]:
        return (RoleRevoked(reason),) if state is not None and not state.revoked else ()

    written = await change_and_apply(context, aggregate, decide)
    return msgspec.json.encode(replies.Changed(written.stored.seq))


async def listed(context: AdminContext, tenant: str, body: bytes) -> bytes:
    """`{items}`: each name with its role, its status (`live` or `revoked`) and the sequence since which it has that.

    Raises `invalid_request` for an unknown tenant, and `Unavailable`.
    """
    decode(body, _decoder)
    await known_tenant(context, tenant)
    known = await _roles(context, tenant)
    return msgspec.json.encode(replies.Roles(tuple(_item(name, found) for name, found in sorted(known.items()))))


def _item(name: str, found: TenantRole) -> replies.Role:
    return replies.Role(name, found.state.role, "revoked" if found.state.revoked else "live", found.seq)


async def _roles(context: AdminContext, tenant: str) -> dict[str, TenantRole]:
    """The tenant's roles by name, as of now. Raises `Unavailable`."""
    newest = (await context.log.head(aggregate_names.role(tenant, "*"))).stored
    if newest is not None:
        await context.registry.catch_up(newest.seq)
    return context.registry.roles(tenant)


def _name(asked: RoleRequest) -> str:
    name = required(asked.name, "name")
    if not aggregate_names.ROLE_NAME.fullmatch(name):
        raise OAuthError("invalid_request", f"name must be {aggregate_names.ROLE_NAME.pattern}")
    return name


def _role(asked: RoleRequest) -> RoleKind:
    role = required(asked.role, "role")
    kinds: tuple[RoleKind, ...] = get_args(RoleKind)
    for kind in kinds:
        if kind == role:
            return kind
    raise OAuthError("invalid_request", f"role must be one of {', '.join(kinds)}")
