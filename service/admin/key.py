"""`admin.<tenant>.key.rotate`: signing keys go from next to active to retired, the MAC key to the newest secret.

Each step is a commit of the key's own aggregate. The next signing key is in the JWKS since the rotation before. A
rotation that was interrupted is completed by the next one.
"""

from typing import Literal

import msgspec

from events.aggregates import aggregate_names
from events.aggregates import key as key_events
from events.aggregates.aggregate_names import AggregateName
from events.aggregates.settings import SigningAlg
from events.log.stored_message import StoredMessage
from service.admin import replies
from service.admin.change_and_apply import change_and_apply
from service.context import AdminContext
from service.errors import OAuthError
from service.keys.keyring import KeyringError
from service.keys.signing_key import SigningKey
from service.registry.change_aggregate import DecideChange
from service.registry.tenant import Tenant, TenantKey
from service.request import decode


class RotateRequest(msgspec.Struct, frozen=True):
    """`use` is `sig` (access and ID tokens) or `mac` (refresh tokens, codes, opaque tokens)."""

    use: Literal["sig", "mac"] = "sig"


_decoder = msgspec.json.Decoder(RotateRequest)


async def rotate(context: AdminContext, tenant_name: str, body: bytes) -> bytes:
    """`{seq, kid}` of the key that every replica uses from now on.

    Raises `invalid_request` for an unknown tenant or a keyring without a newer secret, `temporarily_unavailable` when
    another rotation is under way or the keyring cannot be read, and `Unavailable`.
    """
    parameters = decode(body, _decoder)
    tenant = await context.registry.tenant(tenant_name)
    if tenant is None or tenant.configured is None:
        raise OAuthError("invalid_request", "there is no such tenant")
    rotated = await (_rotate_signing(context, tenant) if parameters.use == "sig" else _rotate_mac(context, tenant))
    await context.replicas.barrier(await context.log.last_setting())
    kid = AggregateName.parse(rotated.subject).id
    if parameters.use == "sig":
        await _certain_to_sign(context, tenant, kid)
    return msgspec.json.encode(replies.KeyRotated(rotated.seq, kid))


async def ensure_keys(context: AdminContext, tenant: Tenant, alg: SigningAlg) -> None:
    """Make the tenant's active and next signing key if it lacks one. Two replicas that race make the same keys.

    Raises `Unavailable`, also when this replica is too far behind the log to know the tenant's keys.
    """
    await context.registry.wait_for_keys(tenant.name)
    if tenant.signing is None:
        if context.keyring.current != tenant.mac_key:
            await _mint_under(context, tenant, context.keyring.current)  # an older secret may have leaked
        await _publish(context, tenant, alg, active=True)
    following = tenant.next_key()
    if following is None or following.state.alg != alg:
        await _publish(context, tenant, alg)


async def _rotate_signing(context: AdminContext, tenant: Tenant) -> StoredMessage:
    await ensure_keys(context, tenant, tenant.settings.signing_alg or "ES256")
    following = tenant.next_key()
    if following is None:
        raise _overtaken()
    activated = await _advance(context, tenant, following, "next", key_events.KeyActivated())
    for known in tenant.keys_that_are("active"):
        if known.rank() < following.rank():
            await _advance(context, tenant, known, "active", key_events.KeyRetired())
    await ensure_keys(context, tenant, tenant.settings.signing_alg or "ES256")
    return activated


async def _certain_to_sign(context: AdminContext, tenant: Tenant, kid: str) -> None:
    """Raise `temporarily_unavailable` if another rotation has replaced the key already."""
    await context.registry.wait_for_keys(tenant.name)
    if tenant.signing is None or tenant.signing.kid != kid:
        raise _overtaken()


def _overtaken() -> OAuthError:
    return OAuthError("temporarily_unavailable", "another rotation is under way; try again")


async def _publish(context: AdminContext, tenant: Tenant, alg: SigningAlg, *, active: bool = False) -> None:
    number = 1 + max((known.state.number for known in tenant.keys.values()), default=0)
    secret = context.keyring.current
    key = SigningKey(context.keyring, tenant.name, secret, number, alg)
    published = key_events.KeyPublished(alg, secret, number, key.public_jwk())

    def decide(state: key_events.KeyState | None) -> tuple[key_events.KeyEvent, ...]:
        if state is not None:
            return ()
        return (published, key_events.KeyActivated()) if active else (published,)

    await _change(context, tenant, key.kid, decide)


async def _advance(
    context: AdminContext, tenant: Tenant, known: TenantKey, status: str, event: key_events.KeyEvent
) -> StoredMessage:
    def decide(state: key_events.KeyState | None) -> tuple[key_events.KeyEvent, ...]:
        return (event,) if state is not None and state.status == status else ()

    return await _change(context, tenant, known.key.kid, decide)


async def _rotate_mac(context: AdminContext, tenant: Tenant) -> StoredMessage:
    """Compute tokens under the keyring's newest secret from now on. Those under older secrets stay valid."""
    try:
        context.keyring.reload()
    except KeyringError as error:
        raise OAuthError("temporarily_unavailable", "the keyring cannot be read now") from error
    newest = context.keyring.current
    if newest == tenant.mac_key:
        raise OAuthError("invalid_request", "the keyring has no newer secret: add one with `heirloom keyring add`")
    return await _mint_under(context, tenant, newest)


async def _mint_under(context: AdminContext, tenant: Tenant, secret: int) -> StoredMessage:
    def decide(state: key_events.KeyState | None) -> tuple[key_events.KeyEvent, ...]:
        if state is not None:
            return ()
        return key_events.KeyPublished("HS256", secret, 0, {}), key_events.KeyActivated()

    return await _change(context, tenant, f"mac-{secret}", decide)


async def _change(context: AdminContext, tenant: Tenant, kid: str, decide: DecideChange) -> StoredMessage:
    return (await change_and_apply(context, aggregate_names.key(tenant.name, kid), decide)).stored
