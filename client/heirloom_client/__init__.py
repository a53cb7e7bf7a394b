"""Tokens from Heirloom over NATS, in ten lines: `Client` asks, and its errors are named for the RFCs' codes.

Start with `client`, then `endpoint` and `connections`.
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
    NotPermitted,
    ServerError,
    SlowDown,
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

__all__ = [
    "AccessDenied",
    "AuthorizationPending",
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
    "KvStore",
    "MemoryStore",
    "NotPermitted",
    "ServerError",
    "SlowDown",
    "Store",
    "StoreError",
    "TemporarilyUnavailable",
    "TokenSource",
    "Tokens",
    "UnauthorizedClient",
    "Unavailable",
    "UnsupportedGrantType",
    "UnsupportedTokenType",
]
