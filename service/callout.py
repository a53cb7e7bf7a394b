"""Who may connect, and what he may say: the broker asks, this answers (NATS auth callout).

A client connects as user `<tenant>.<client_id>`. The answer is a user JWT whose permissions are that client's own
subjects and inbox, so that a subject proves its caller everywhere else in this service.
"""

import base64
import hashlib
import hmac
import logging
import time
from typing import Any

import msgspec
import nkeys
from nats.aio.msg import Msg

from events.bus import Connection
from events.log import Unavailable
from service.context import Context
from service.errors import OAuthError
from service.tokens import new_id

log = logging.getLogger("heirloom.callout")

SUBJECT = "$SYS.REQ.USER.AUTH"
ACCOUNT = "USERS"
REFUSED = "Authorization Violation"


class _ServerId(msgspec.Struct):
    id: str


class _ConnectOptions(msgspec.Struct):
    user: str = ""
    password: str = msgspec.field(default="", name="pass")


class _Asked(msgspec.Struct):
    server_id: _ServerId
    user_nkey: str
    connect_opts: _ConnectOptions


class _Claims(msgspec.Struct):
    nats: _Asked


_decoder = msgspec.json.Decoder(_Claims)


class Callout:
    """Answers the broker's questions. `client_key` makes the clients' passwords; `issuer_seed` signs the answers."""

    def __init__(self, context: Context, client_key: bytes, issuer_seed: str) -> None:
        self._context = context
        self._client_key = client_key
        self._issuer = nkeys.from_seed(issuer_seed.encode())
        self._issuer_id = self._issuer.public_key.decode()

    async def start(self, connection: Connection) -> None:
        """Listen; every replica may answer."""
        await connection.subscribe(SUBJECT, queue="heirloom", cb=self._answer)
        await connection.flush()

    async def _answer(self, message: Msg) -> None:
        # the broker's own JWT, on a subject of an account where only this service may publish
        payload = message.data.split(b".")[1]
        asked = _decoder.decode(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4))).nats
        answer: dict[str, Any]
        try:
            tenant, client_id = await self._authenticate(asked.connect_opts)
            answer = {"jwt": self._user_jwt(asked.user_nkey, tenant, client_id)}
        except (OAuthError, Unavailable) as error:
            log.info("a connection was refused", extra={"why": str(error)})
            answer = {"error": REFUSED}
        claims = {"aud": asked.server_id.id, "sub": asked.user_nkey, "nats": answer | _kind("authorization_response")}
        await message.respond(self._sign(claims).encode())

    async def _authenticate(self, offered: _ConnectOptions) -> tuple[str, str]:
        tenant_name, _, client_id = offered.user.partition(".")
        expected = client_password(self._client_key, tenant_name, client_id)
        if not hmac.compare_digest(offered.password.encode(), expected.encode()):
            raise OAuthError("invalid_client", "wrong credentials")
        tenant, client = await self._context.caller(tenant_name, client_id)
        return tenant.name, client.client_id

    def _user_jwt(self, user: str, tenant: str, client_id: str) -> str:
        permissions = {
            "pub": {"allow": [f"oauth.{tenant}.client.{client_id}.>", f"oauth.{tenant}.public.>"]},
            "sub": {"allow": [f"_INBOX.{tenant}.{client_id}.>"]},
            "subs": -1,
            "data": -1,
            "payload": -1,
        }
        name = f"{tenant}/{client_id}"
        return self._sign({"aud": ACCOUNT, "sub": user, "name": name, "nats": permissions | _kind("user")})

    def _sign(self, claims: dict[str, Any]) -> str:
        header = _b64(b'{"typ":"JWT","alg":"ed25519-nkey"}')
        stamped = {"iss": self._issuer_id, "iat": int(time.time()), "jti": new_id()} | claims
        signing_input = header + b"." + _b64(msgspec.json.encode(stamped))
        return (signing_input + b"." + _b64(self._issuer.sign(signing_input))).decode()


def client_password(client_key: bytes, tenant: str, client_id: str) -> str:
    """What a client connects with when an operator hands it a URL: computed, so it is stored nowhere."""
    mac = hmac.digest(client_key, f"{tenant}/{client_id}".encode(), hashlib.sha256)
    return _b64(mac).decode()


def _kind(kind: str) -> dict[str, Any]:
    return {"type": kind, "version": 2}


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
