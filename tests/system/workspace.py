"""A tenant of a test's own on the running service, and the ways to tokens through it."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import count
from typing import Any

import jwt

from tests.system.service import Caller, Service

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
EVERY_GRANT = ["refresh_token", "authorization_code", DEVICE, "client_credentials"]
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "https://app.example/cb"
SCOPE = "openid profile read write offline_access"
API, OTHER_API = "https://api.example", "https://other.example"
INACTIVE = {"active": False}

CLIENTS: dict[str, dict[str, Any]] = {
    "app": {"grant_types": EVERY_GRANT, "redirect_uris": [REDIRECT], "audiences": ["*"]},
    "other": {"grant_types": EVERY_GRANT, "redirect_uris": [REDIRECT]},
    "web": {"grant_types": EVERY_GRANT, "redirect_uris": [REDIRECT], "audiences": [API]},
    "login": {"may_issue": False, "may_authorize": True},
    "orders": {"grant_types": [EXCHANGE], "may_introspect": True, "may_issue": False, "may_exchange": ["app"]},
    "named": {"grant_types": [EXCHANGE], "may_exchange": ["web"]},
    "api": {"grant_types": [EXCHANGE], "audiences": [API], "may_introspect": True},
    "svc": {"grant_types": [EXCHANGE], "scope": "read"},
}
"""How most tests register clients of these names; other clients may only refresh."""

_numbers = count()


class Workspace:
    """One issuer, with whom to administer and to audit it."""

    def __init__(self, service: Service, name: str, operator: Caller, auditor: Caller) -> None:
        self.service, self.name, self.issuer = service, name, f"https://{name}.example"
        self.operator, self.auditor = operator, auditor

    async def order(self, what: str, **request: Any) -> dict[str, Any]:
        """An operator's command, which must succeed."""
        return await self.operator.succeed(f"admin.{self.name}.{what}", request, seconds=40)

    async def refused(self, what: str, **request: Any) -> dict[str, Any]:
        """An operator's command, which must not succeed."""
        answer = await self.operator.ask(f"admin.{self.name}.{what}", request, seconds=30)
        assert "error" in answer, answer
        return answer

    async def settings(self, **settings: Any) -> None:
        """The tenant's settings, replaced as a whole."""
        await self.order("tenant.put", issuer=self.issuer, **settings)

    async def register(self, client_id: str, secret: bool = False, **settings: Any) -> str:
        """A client's registration, replaced as a whole; its secret where one is made."""
        usual = {"scope": SCOPE, "grant_types": ["refresh_token"], "may_issue": True} | CLIENTS.get(client_id, {})
        answer = await self.order("client.put", client_id=client_id, generate_secret=secret, **usual | settings)
        return str(answer.get("client_secret", ""))

    def client(self, client_id: str) -> AbstractAsyncContextManager[Caller]:
        """Connected as that client."""
        return self.service.client(client_id, self.name)

    async def sequence(self) -> int:
        """Where the log ends."""
        return int((await self.auditor.ask(f"audit.{self.name}.position", {}))["log_seq"])

    async def audit(self, what: str, *, tenant: str | None = None, **request: Any) -> dict[str, Any]:
        """The answer to an auditor's question, an error among them."""
        return await self.auditor.ask(f"audit.{tenant or self.name}.{what}", request)

    async def reasons(self, **filters: Any) -> list[str]:
        """Why families ended, the latest first."""
        question = {"min_seq": await self.sequence()} | filters
        answer = await self.auditor.ask(f"audit.{self.name}.revocations", question)
        return [item["reason"] for item in answer["items"]]

    async def timeline(self, family_id: str) -> list[str]:
        """What happened to a family, by the events' names."""
        question = {"family_id": family_id, "min_seq": await self.sequence()}
        answer = await self.auditor.ask(f"audit.{self.name}.family", question)
        return [event for entry in answer["timeline"] for event in entry["types"]]


class Clients:
    """Registers clients of a workspace and connects as them, until the test ends."""

    def __init__(self, workspace: Workspace, stack: AsyncExitStack) -> None:
        self._workspace, self._stack = workspace, stack
        self._connected: dict[str, Caller] = {}

    async def __call__(self, client_id: str, **settings: Any) -> Caller:
        """A client registered with these settings and connected."""
        await self._workspace.register(client_id, **settings)
        caller = await self._stack.enter_async_context(self._workspace.client(client_id))
        self._connected[client_id] = caller
        return caller

    async def all(self, *client_ids: str) -> list[Caller]:
        """Each of these, as `CLIENTS` has it."""
        return [await self(client_id) for client_id in client_ids]

    def __getitem__(self, client_id: str) -> Caller:
        """One that is connected already."""
        return self._connected[client_id]


@asynccontextmanager
async def made(service: Service) -> AsyncIterator[Workspace]:
    """A new one, with default settings and no clients."""
    async with service.role("operator") as operator, service.role("auditor") as auditor:
        workspace = Workspace(service, f"workspace{next(_numbers)}", operator, auditor)
        await workspace.settings()
        yield workspace


async def code_for(login: Caller, client_id: str, **changes: Any) -> str:
    """An authorization code of `client_id`, by a trusted login service."""
    request = {
        "client_id": client_id,
        "sub": "alice",
        "scope": SCOPE,
        "redirect_uri": REDIRECT,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    answer = await login.ask("authorize", request | changes)
    assert "error" not in answer, answer
    return str(answer["code"])


def redemption(code: str) -> dict[str, Any]:
    """RFC 6749 §4.1.3."""
    return {"grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}


async def device_code(device: Caller, login: Caller, *, resource: list[str] | None = None, **answer: Any) -> str:
    """A device code that somebody has approved, of a device that asked for these resources."""
    started = await device.ask("device_authorization", {"resource": resource})
    approval = {"user_code": started["user_code"], "sub": "alice", "approved": True} | answer
    assert await login.ask("authorize", approval) == {}
    return str(started["device_code"])


def poll(code: str) -> dict[str, Any]:
    """RFC 8628 §3.4."""
    return {"grant_type": DEVICE, "device_code": code}


def swap(token: str, **changes: Any) -> dict[str, Any]:
    """RFC 8693 §2.1."""
    return {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN} | changes


def claims(token: str) -> dict[str, Any]:
    """What a JWT says, unverified."""
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded
