"""A tenant of a test's own on the running service, and the ways to tokens through it."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any

import jwt

from tests.system.service import Caller, Service

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REDIRECT = "https://app.example/cb"
SCOPE = "openid profile read write offline_access"

_numbers = count()


class Workspace:
    """One issuer, with whom to administer and to audit it."""

    def __init__(self, service: Service, name: str, operator: Caller, auditor: Caller) -> None:
        self.service, self.name, self.issuer = service, name, f"https://{name}.example"
        self._operator, self._auditor = operator, auditor

    async def order(self, what: str, **request: Any) -> dict[str, Any]:
        """An operator's command, which must succeed."""
        return await self._operator.succeed(f"admin.{self.name}.{what}", request, seconds=30)

    async def refused(self, what: str, **request: Any) -> dict[str, Any]:
        """An operator's command, which must not succeed."""
        answer = await self._operator.ask(f"admin.{self.name}.{what}", request, seconds=30)
        assert "error" in answer, answer
        return answer

    async def settings(self, **settings: Any) -> None:
        """The tenant's settings, replaced as a whole."""
        await self.order("tenant.put", issuer=self.issuer, **settings)

    async def register(self, client_id: str, secret: bool = False, **settings: Any) -> str:
        """A client's registration, replaced as a whole; its secret where one is made."""
        shared = {"scope": SCOPE, "grant_types": ["refresh_token"], "may_issue": True} | settings
        answer = await self.order("client.put", client_id=client_id, generate_secret=secret, **shared)
        return str(answer.get("client_secret", ""))

    def client(self, client_id: str) -> AbstractAsyncContextManager[Caller]:
        """Connected as that client."""
        return self.service.client(client_id, self.name)

    async def sequence(self) -> int:
        """Where the log ends."""
        return int((await self._auditor.ask(f"audit.{self.name}.position", {}))["log_seq"])

    async def audit(self, what: str, *, tenant: str | None = None, **request: Any) -> dict[str, Any]:
        """The answer to an auditor's question, an error among them."""
        return await self._auditor.ask(f"audit.{tenant or self.name}.{what}", request)

    async def reasons(self, **filters: Any) -> list[str]:
        """Why families ended, the latest first."""
        question = {"min_seq": await self.sequence()} | filters
        answer = await self._auditor.ask(f"audit.{self.name}.revocations", question)
        return [item["reason"] for item in answer["items"]]

    async def timeline(self, family_id: str) -> list[str]:
        """What happened to a family, by the events' names."""
        question = {"family_id": family_id, "min_seq": await self.sequence()}
        answer = await self._auditor.ask(f"audit.{self.name}.family", question)
        return [event for entry in answer["timeline"] for event in entry["types"]]


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


async def device_code(device: Caller, login: Caller, **answer: Any) -> str:
    """A device code that somebody has approved."""
    started = await device.ask("device_authorization", {})
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
