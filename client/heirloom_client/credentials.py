"""How a client shows who it is when it connects: by its secret, a private key, an access token, or its URL."""

import hashlib
import secrets
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import unquote, urlsplit

from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import Key, import_key

ASSERTION_SECONDS = 60
ALGORITHMS = {"EC": "ES256", "OKP": "Ed25519", "RSA": "PS256"}
"""By the kind of key, where the key itself names no `alg`."""


class Login(NamedTuple):
    """The credentials of one connection. Without a `user` they stand in the URL."""

    user: str | None
    password: str | None
    inbox_prefix: str

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


Credential: TypeAlias = Callable[[], Awaitable[Login]]
"""Makes the credentials of the next connection."""
PrivateKey: TypeAlias = Key | Mapping[str, Any] | str | bytes
"""A joserfc key, a JWK, or PEM."""


def by_secret(tenant: str, client_id: str, secret: str | None) -> Credential:
    """The client's secret; None: whatever the URL holds, as `heirloom url` prints it."""
    login = Login(None if secret is None else f"{tenant}.{client_id}", secret, _inbox(tenant, client_id))

    async def credential() -> Login:
        return login

    return credential


def by_url(address: str) -> Credential:
    """The credentials of a role, which the URL holds, as `heirloom url` and `heirloom admin role add` print it."""
    user = unquote(urlsplit(address).username or "")
    login = Login(None, None, f"_INBOX.{user}" if ".role." in user else f"_INBOX.role.{user or 'resource'}")

    async def credential() -> Login:
        return login

    return credential


def by_private_key(tenant: str, client_id: str, private_key: PrivateKey) -> Credential:
    """A signed assertion (`private_key_jwt`, RFC 7523 §3), a new one for each connection."""
    key = _imported(private_key)
    algorithm = str(key.get("alg") or ALGORITHMS[key.key_type])
    header = {"alg": algorithm} | ({"kid": key.kid} if key.kid else {})

    async def credential() -> Login:
        now = int(time.time())
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": f"nats:oauth.{tenant}.edge.token",
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        signed = jwt.encode(header, claims, key, algorithms=[algorithm])
        return Login(f"{tenant}.{client_id}", signed, _inbox(tenant, client_id))

    return credential


def by_access_token(tenant: str, client_id: str, access_token: Callable[[], Awaitable[str]]) -> Credential:
    """An access token of that client. The callback is called for each connection, so it must give one that lives."""

    async def credential() -> Login:
        token = await access_token()
        # a person's token has an inbox of its own; a client's own token may use this one as well
        inbox = f"{_inbox(tenant, client_id)}.{hashlib.sha256(token.encode()).hexdigest()[:32]}"
        return Login(f"{tenant}.{client_id}", token, inbox)

    return credential


def _inbox(tenant: str, client_id: str) -> str:
    return f"_INBOX.{tenant}.{client_id}"


def _imported(private_key: PrivateKey) -> Key:
    if isinstance(private_key, Key):
        key = private_key
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # PEM says itself which kind of key it is
            data = private_key if isinstance(private_key, str | bytes) else dict(private_key)
            key = import_key(data)
    if key.key_type not in ALGORITHMS or not key.is_private:
        raise ValueError("private_key must be a private EC, Ed25519 or RSA key")
    return key
