"""An issuer in memory, which keeps the promises of the contract's section 3 to the clients of one test.

It answers `issue`, `token` (refresh tokens, client credentials), `introspect` and `revoke`; whatever else is asked for
is `unsupported_grant_type`. Access tokens are no JWTs.
"""

import asyncio
import itertools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from heirloom_client import clock
from heirloom_client.client import Client
from heirloom_client.connections import Connections
from heirloom_client.link import ConnectionLost, Link

SECONDS = 10.0
"""How long a request may take."""
Parameters = Mapping[str, Any]


class Reply(NamedTuple):
    """As a message of NATS has it."""

    data: bytes
    headers: dict[str, str]


class Refused(Exception):
    """A refusal with the RFC's code."""

    def __init__(self, code: str, description: str = "the testing kit's issuer refuses this") -> None:
        super().__init__(code)
        self.code = code
        self.description = description


class Family:
    """All tokens of one grant. `redemptions` has key, request and answer for each generation that is used."""

    def __init__(self, name: str, client_id: str, sub: str, scope: str) -> None:
        self.name, self.client_id, self.sub, self.scope = name, client_id, sub, scope
        self.generation = 0
        self.ended = False
        self.redemptions: dict[int, tuple[str | None, Parameters, dict[str, Any]]] = {}


class Access(NamedTuple):
    """An access token's family, None for a client's own; what it is for, and its end by `heirloom_client.clock`."""

    family: Family | None
    claims: dict[str, Any]
    ends: float


class Issuer:
    """One tenant. Use it as `async with`, so that the clock is right again afterwards.

    `access_token_ttl` are seconds. `requests` lists what was asked, by the names of the endpoints.
    """

    def __init__(self, tenant: str = "acme", *, access_token_ttl: int = 300) -> None:
        self.tenant = tenant
        self.access_token_ttl = access_token_ttl
        self.requests: list[str] = []
        self._families: dict[str, Family] = {}
        self._access: dict[str, Access] = {}
        self._revoked: set[str] = set()
        self._numbers = itertools.count(1)
        self._lost = 0

    async def __aenter__(self) -> "Issuer":
        return self

    async def __aexit__(self, *_: object) -> None:
        clock.ahead = 0.0

    def client(self, client_id: str = "web") -> Client:
        """A client of this issuer."""
        connections = cast("Connections", _Connections(self, client_id))
        return Client(connections, self.tenant, client_id, SECONDS)

    def advance(self, seconds: float) -> None:
        """Let time pass, for the issuer and for every client and token source in this process."""
        clock.ahead += seconds

    def lose_replies(self, count: int = 1) -> None:
        """The next requests are carried out, and their replies are lost with the connection."""
        self._lost = count

    def revoke(self, sub: str) -> None:
        """End all families of a person, as an operator may at any time."""
        for family in self._families.values():
            family.ended |= family.sub == sub

    def is_active(self, access_token: str) -> bool:
        """Whether a resource server would accept the access token now."""
        found = self._access.get(access_token)
        return found is not None and self._lives(access_token, found)

    def answer(self, client_id: str, endpoint: str, parameters: Parameters, key: str | None) -> Reply:
        """The reply to a request. Raises `ConnectionLost` where it is to be lost."""
        self.requests.append(endpoint)
        try:
            reply = Reply(json.dumps(self._carry_out(client_id, endpoint, parameters, key)).encode(), {})
        except Refused as refused:
            body = {"error": refused.code, "error_description": refused.description}
            headers = {"Nats-Service-Error": refused.code, "Nats-Service-Error-Code": "400"}
            reply = Reply(json.dumps(body).encode(), headers)
        if self._lost:
            self._lost -= 1
            raise ConnectionLost("lost by the test")
        return reply

    def _carry_out(self, client_id: str, endpoint: str, parameters: Parameters, key: str | None) -> dict[str, Any]:
        match endpoint, parameters.get("grant_type"):
            case "issue", _:
                name = f"f{next(self._numbers)}"
                family = Family(name, client_id, parameters["sub"], parameters["scope"])
                self._families[name] = family
                return self._tokens(family, family.scope)
            case "token", "refresh_token":
                return self._refresh(client_id, parameters, key)
            case "token", "client_credentials":
                return self._access_token(None, client_id, client_id, parameters.get("scope") or "")
            case "introspect", _:
                token = parameters["token"]
                return {"active": True} | self._access[token].claims if self.is_active(token) else {"active": False}
            case "revoke", _:
                self._revoke(parameters["token"])
                return {}
        raise Refused("unsupported_grant_type")

    def _refresh(self, client_id: str, parameters: Parameters, key: str | None) -> dict[str, Any]:
        name, _, number = parameters["refresh_token"].removeprefix("hrt_").partition("_")
        family = self._families.get(name)
        if family is None or family.client_id != client_id or family.ended:
            raise Refused("invalid_grant")
        generation, scope = int(number), parameters.get("scope") or family.scope
        if generation < family.generation:
            return self._again(family, generation, parameters, key)
        if not set(scope.split()) <= set(family.scope.split()):
            raise Refused("invalid_scope")
        family.generation += 1
        answer = self._tokens(family, scope)
        family.redemptions[generation] = key, dict(parameters), answer
        return answer

    def _again(self, family: Family, generation: int, parameters: Parameters, key: str | None) -> dict[str, Any]:
        """A token that was used: the same answer by its key, a late duplicate, or a theft (contract §3)."""
        used_with, request, answer = family.redemptions[generation]
        if key is None or key != used_with:
            family.ended = True
            raise Refused("invalid_grant")
        if generation + 1 < family.generation:
            raise Refused("invalid_grant")
        if request != parameters:
            raise Refused("invalid_request")
        return answer

    def _tokens(self, family: Family, scope: str) -> dict[str, Any]:
        tokens = self._access_token(family, family.client_id, family.sub, scope)
        if "offline_access" not in family.scope.split():
            return tokens
        return tokens | {"refresh_token": f"hrt_{family.name}_{family.generation}"}

    def _access_token(self, family: Family | None, client_id: str, sub: str, scope: str) -> dict[str, Any]:
        text, ends = f"access{next(self._numbers)}", clock.now() + self.access_token_ttl
        self._access[text] = Access(family, {"client_id": client_id, "sub": sub, "scope": scope}, ends)
        return {"access_token": text, "token_type": "Bearer", "expires_in": self.access_token_ttl, "scope": scope}

    def _revoke(self, token: str) -> None:
        self._revoked.add(token)
        family = self._families.get(token.removeprefix("hrt_").partition("_")[0])
        if family is not None:
            family.ended = True

    def _lives(self, text: str, found: Access) -> bool:
        ended = found.family is not None and found.family.ended
        return not ended and text not in self._revoked and found.ends > clock.now()


class _Connections:
    """In place of `heirloom_client.connections.Connections`."""

    def __init__(self, issuer: Issuer, client_id: str) -> None:
        self._link = cast("Link", _Link(issuer, client_id))

    async def link(self, _seconds: float) -> Link:
        """Always open."""
        return self._link

    async def close(self) -> None:
        """Nothing is open."""


class _Link:
    """In place of `heirloom_client.link.Link`."""

    is_open = True

    def __init__(self, issuer: Issuer, client_id: str) -> None:
        self._issuer, self._client_id = issuer, client_id

    async def request(self, subject: str, body: bytes, headers: Mapping[str, str], _seconds: float) -> Reply:
        """The issuer's reply, after others had their turn."""
        await asyncio.sleep(0)
        endpoint = subject.rpartition(".")[2]
        return self._issuer.answer(self._client_id, endpoint, json.loads(body), headers.get("Idempotency-Key"))
