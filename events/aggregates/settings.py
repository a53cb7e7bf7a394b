"""Policy as data (CONTRACT §4): settings of tenants, which clients override, and a tenant's aggregate.

Names are those of RFC 7591, if any. A tenant's settings are the aggregate `tokens.<tenant>.tenant`.

None means "not set here": then the tenant's value or the default holds. All durations are whole seconds.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from events.aggregates.commit import Codec, Commit

GrantType: TypeAlias = Literal[
    "authorization_code",
    "refresh_token",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
]
TOKEN_EXCHANGE: GrantType = "urn:ietf:params:oauth:grant-type:token-exchange"
AuthMethod: TypeAlias = Literal["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
SigningAlg: TypeAlias = Literal["ES256", "Ed25519"]


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings that tenants and clients share. Rates hold for each replica; requests beyond them are rejected.

    `audiences` are the targets that a token may have besides the issuer (RFC 8707); `*` is any.
    """

    grant_types: tuple[GrantType, ...] | None = None
    scope: str | None = None
    audiences: tuple[str, ...] | None = None
    access_token_ttl: int | None = None
    access_token_format: Literal["jwt", "opaque"] | None = None
    refresh_token_ttl: int | None = None
    refresh_token_idle_ttl: int | None = None
    refresh_token_rotation: Literal["rotate", "reuse"] | None = None
    refresh_token_grace: int | None = None
    require_offline_access: bool | None = None
    scope_narrowing: Literal["request", "sticky"] | None = None
    required_acr: tuple[str, ...] | None = None
    requests_per_second: int | None = None
    family_requests_per_second: int | None = None
    max_connections: int | None = None
    max_pending_devices: int | None = None
    redirect_uris: tuple[str, ...] | None = None
    jwks: dict[str, Any] | None = None
    token_endpoint_auth_method: AuthMethod | None = None


class TenantSettings(Policy, frozen=True):
    """The settings of a tenant, which is one OAuth issuer. Without an `issuer` it is `urn:heirloom:<tenant>`.

    At `verification_uri` a person enters a device's user code (RFC 8628 §3.2).
    """

    issuer: str | None = None
    signing_alg: SigningAlg | None = None
    verification_uri: str | None = None


class ClientSettings(Policy, frozen=True):
    """A client's registration (RFC 7591 §2), and its rights.

    `may_exchange` lists the clients whose tokens it may exchange (RFC 8693), besides its own and those for it.
    """

    may_issue: bool = False
    may_authorize: bool = False
    may_introspect: bool = False
    may_exchange: tuple[str, ...] = ()


class TenantConfigured(msgspec.Struct, frozen=True, tag_field="type", tag="TenantConfigured", omit_defaults=True):
    """The tenant's settings changed. Settings that are omitted have their defaults.

    `longest_ttl` (seconds) is the longest `access_token_ttl` of earlier settings, if longer than this one's.
    """

    settings: TenantSettings
    longest_ttl: int | None = None


class TenantState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The current settings. `longest_ttl` is as in `TenantConfigured`."""

    settings: TenantSettings
    longest_ttl: int | None = None


TenantEvent: TypeAlias = TenantConfigured
TenantCommit: TypeAlias = Commit[TenantEvent, TenantState]
codec: Codec[TenantEvent, TenantState] = Codec(TenantCommit)


def evolve(_state: TenantState | None, event: TenantEvent) -> TenantState:
    """The state after `event`."""
    return TenantState(event.settings, event.longest_ttl)
