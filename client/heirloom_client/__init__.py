"""Tokens from Heirloom over NATS, in ten lines: `Client` asks, and its errors are named for the RFCs' codes.

`Verifier` verifies them, and knows of revocations. Start with `client`, then `endpoint` and `connections`.
"""

from heirloom_client.client import Client
from heirloom_client.device import Device
from heirloom_client.errors import (
    AccessDenied,
    AuthorizationPending,
    Error,
    ExpiredToken,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    InvalidToken,
    NotPermitted,
    ServerError,
    SlowDown,
    Stale,
    StoreError,
    TemporarilyUnavailable,
    UnauthorizedClient,
    Unavailable,
    UnsupportedGrantType,
    UnsupportedTokenType,
)
from heirloom_client.stores import FileStore, KvStore, MemoryStore, Store
from heirloom_client.token_source import TokenSource
from heirloom_client.tokens import Code, Introspection, Tokens
from heirloom_client.verification.access_token import Claims
from heirloom_client.verification.resource import Resource
from heirloom_client.verification.verifier import Verifier

__all__ = [
    "AccessDenied",
    "AuthorizationPending",
    "Claims",
    "Client",
    "Code",
    "Device",
    "Error",
    "ExpiredToken",
    "FileStore",
    "Introspection",
    "InvalidClient",
    "InvalidGrant",
    "InvalidRequest",
    "InvalidScope",
    "InvalidTarget",
    "InvalidToken",
    "KvStore",
    "MemoryStore",
    "NotPermitted",
    "Resource",
    "ServerError",
    "SlowDown",
    "Stale",
    "Store",
    "StoreError",
    "TemporarilyUnavailable",
    "TokenSource",
    "Tokens",
    "UnauthorizedClient",
    "Unavailable",
    "UnsupportedGrantType",
    "UnsupportedTokenType",
    "Verifier",
]
