"""The rules a decision receives: a client's settings, else its tenant's, else the defaults (CONTRACT §4)."""

from typing import Any, Literal

import msgspec

from events.aggregates.settings import AuthMethod, ClientSettings, GrantType, TenantSettings

ANY = "*"
"""An entry of `audiences` that stands for every audience."""


class Rules(msgspec.Struct, frozen=True):
    """Every setting with its value. Durations are whole seconds; CONTRACT §4 says what 0 means."""

    grant_types: tuple[GrantType, ...] = ("authorization_code", "refresh_token")
    scope: str = ""
    audiences: tuple[str, ...] = ()
    access_token_ttl: int = 300
    access_token_format: Literal["jwt", "opaque"] = "jwt"
    refresh_token_ttl: int = 2_592_000
    refresh_token_idle_ttl: int = 1_209_600
    refresh_token_rotation: Literal["rotate", "reuse"] = "rotate"
    refresh_token_grace: int = 0
    require_offline_access: bool = True
    scope_narrowing: Literal["request", "sticky"] = "request"
    required_acr: tuple[str, ...] | None = None
    requests_per_second: int = 10_000
    family_requests_per_second: int = 3_000
    max_connections: int = 100
    max_pending_devices: int = 1_000
    redirect_uris: tuple[str, ...] = ()
    jwks: dict[str, Any] | None = None
    token_endpoint_auth_method: AuthMethod = "client_secret_basic"
    may_issue: bool = False
    may_authorize: bool = False
    may_introspect: bool = False
    may_exchange: tuple[str, ...] = ()

    @property
    def gives_codes_to_anybody(self) -> bool:
        """Whether anybody could get codes in its name: a public client without redirect URIs (RFC 6749 §3.1.2.2)."""
        is_public = self.token_endpoint_auth_method == "none"
        return is_public and "authorization_code" in self.grant_types and not self.redirect_uris


def longest_before(ttl: int, *before: int | None) -> int | None:
    """The longest of the lifetimes `before` (seconds) if it is longer than `ttl`, else None; a None was not set."""
    longest = max((known for known in before if known is not None), default=0)
    return longest if longest > ttl else None


def resolve(tenant: TenantSettings, client: ClientSettings) -> Rules:
    """The client's rules. A public client's refresh tokens rotate, whatever the setting (RFC 9700 §4.14.2)."""
    chosen: dict[str, Any] = {}
    for settings in (tenant, client):
        for name in Rules.__struct_fields__:
            value = getattr(settings, name, None)
            if value is not None:
                chosen[name] = value
    if chosen.get("token_endpoint_auth_method") == "none":
        chosen["refresh_token_rotation"] = "rotate"
    return Rules(**chosen)
