"""The HTTP edge's subjects: the request itself authenticates the client (RFC 6749 §2.3, RFC 7523, CONTRACT §2)."""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from service.clients.assertion import ASSERTION_TYPE
from tests.system.service import Caller, Service
from tests.system.workspace import Workspace

ISSUER = "https://acme.example"
FAILED = {"error": "invalid_client", "error_description": "client authentication failed"}
_numbers = itertools.count()


class Edge:
    """An HTTP edge: it forwards what its callers sent."""

    def __init__(self, service: Service, caller: Caller, operator: Caller) -> None:
        self._service = service
        self.caller = caller
        self.operator = operator

    async def register(self, method: str, **settings: Any) -> tuple[str, str]:
        """A new client: its id, and its secret where the method has one."""
        client_id = f"edge-{next(_numbers)}"
        return client_id, await self.put(client_id, method, **settings)

    async def put(self, client_id: str, method: str, **settings: Any) -> str:
        """Set a client's registration; the secret, if one was made."""
        registration: dict[str, Any] = {
            "scope": "read offline_access",
            "grant_types": ["refresh_token", "client_credentials"],
        }
        registration |= {"client_id": client_id, "may_issue": True, "token_endpoint_auth_method": method} | settings
        answer = await self.operator.ask("admin.acme.client.put", registration)
        assert "error" not in answer, answer
        secret: str = answer.get("client_secret", "")
        self._service.secrets += [secret] if secret else []  # nothing that it writes may hold it
        return secret

    async def ask(
        self, endpoint: str, parameters: dict[str, Any], headers: dict[str, str] | None = None, tenant: str = "acme"
    ) -> dict[str, Any]:
        """The answer at the edge."""
        return await self.caller.ask(f"oauth.{tenant}.edge.{endpoint}", parameters, headers=headers)

    async def tokens(self, client_id: str) -> dict[str, Any]:
        """Tokens of a new family, issued where the subject authenticates the client."""
        async with self._service.client(client_id) as proved:
            return await proved.issue(scope="read offline_access")


@pytest.fixture
async def edge(service: Service) -> AsyncIterator[Edge]:
    """Connected with the role's credentials."""
    async with service.role("edge") as caller, service.role("operator") as operator:
        yield Edge(service, caller, operator)


def basic(client_id: str, secret: str) -> dict[str, str]:
    """`client_secret_basic`."""
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def assertion(key: Key, client_id: str, *, alg: str = "ES256", **changes: Any) -> dict[str, str]:
    """`private_key_jwt`."""
    now = int(time.time())
    claims = {"iss": client_id, "sub": client_id, "aud": ISSUER, "exp": now + 60, "iat": now}
    claims |= {"jti": f"jti-{next(_numbers)}"} | changes
    signed = jwt.encode({"alg": alg}, claims, key, algorithms=[alg])
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


def jwks(key: Key, **names: str) -> dict[str, Any]:
    """What a client registers."""
    return {"keys": [key.as_dict(private=False) | names]}


def refresh(token: str) -> dict[str, Any]:
    """RFC 6749 §6."""
    return {"grant_type": "refresh_token", "refresh_token": token}


async def test_basic(edge: Edge) -> None:
    """The whole life of a family, by a secret in the header; an id may be encoded as in a form."""
    client_id, secret = await edge.register("client_secret_basic")
    proof = basic(client_id, secret)
    first = await edge.ask("issue", {"sub": "alice", "scope": "read offline_access"}, proof)
    encoded = basic(client_id.replace("-", "%2D"), secret)
    second = await edge.ask("token", refresh(first["refresh_token"]) | {"client_id": client_id}, encoded)
    assert (await edge.ask("introspect", {"token": second["refresh_token"]}, proof))["active"] is True
    assert await edge.ask("revoke", {"token": second["refresh_token"]}, proof) == {}
    assert await edge.ask("introspect", {"token": second["access_token"]}, proof) == {"active": False}


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"])
async def test_a_refresh_by_each_method(edge: Edge, method: str) -> None:
    """Each client authenticates as it is registered, and only with its own proof; a failure consumes nothing."""
    key, strangers = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    client_id, secret = await edge.register(method, **{"jwks": jwks(key)} if method == "private_key_jwt" else {})
    assert bool(secret) == method.startswith("client_secret"), "a secret is made only where one is used"
    other, others_secret = await edge.register("client_secret_basic")
    wrong_proofs: list[tuple[dict[str, str], dict[str, str]]] = [({}, {}), ({"client_id": other}, {})]
    body, headers = {"client_id": client_id}, dict[str, str]()
    match method:
        case "client_secret_basic":
            wrong_proofs += [(body, {}), ({}, basic(client_id, secret[:-1]))]
            body, headers = {}, basic(client_id, secret)
        case "client_secret_post":
            wrong_proofs += [(body, {}), (body | {"client_secret": "wrong"}, {})]
            body = body | {"client_secret": secret}
        case "private_key_jwt":
            wrong_proofs += [(body, {}), (assertion(strangers, client_id), {})]
            body = assertion(key, client_id)
    token = (await edge.tokens(client_id))["refresh_token"]
    for wrong_body, wrong_headers in wrong_proofs:
        assert await edge.ask("token", refresh(token) | wrong_body, wrong_headers) == FAILED
    public, _ = await edge.register("none")
    by_others = [
        await edge.ask("token", refresh(token), basic(other, others_secret)),
        await edge.ask("token", refresh(token) | {"client_id": public}),
    ]
    assert {answer["error"] for answer in by_others} == {"invalid_grant"}, "other clients, which are authenticated"
    assert "access_token" in await edge.ask("token", refresh(token) | body, headers)


async def test_by_name(edge: Edge) -> None:
    """A public client's name is enough where it presents a token or a code, and nowhere else."""
    client_id, _ = await edge.register("none", may_introspect=True)
    name = {"client_id": client_id}
    first = await edge.tokens(client_id)
    second = await edge.ask("token", refresh(first["refresh_token"]) | name)
    assert second["refresh_token"] != first["refresh_token"]
    assert await edge.ask("issue", {"sub": "alice", "scope": "read"} | name) == FAILED
    assert await edge.ask("introspect", {"token": second["refresh_token"]} | name) == FAILED
    own = await edge.ask("token", {"grant_type": "client_credentials", "scope": "read"} | name)
    assert own["error"] == "unauthorized_client", "RFC 6749 §4.4: it would be a token for whoever knows the name"
    assert await edge.ask("revoke", {"token": second["refresh_token"]} | name) == {}


@pytest.mark.parametrize(
    ("alg", "new_key"),
    [
        ("ES256", partial(ECKey.generate_key, "P-256")),
        ("Ed25519", partial(OKPKey.generate_key, "Ed25519")),
        ("PS256", partial(RSAKey.generate_key, 2048)),
        ("RS256", partial(RSAKey.generate_key, 2048)),
    ],
)
async def test_assertions(edge: Edge, alg: str, new_key: Callable[[], Key]) -> None:
    """RFC 7523 §3: signed, for the issuer or the token endpoint."""
    key = new_key()
    client_id, _ = await edge.register("private_key_jwt", jwks=jwks(key, alg=alg))
    for audience in (ISSUER, [ISSUER], "nats:oauth.acme.edge.token"):
        proof = assertion(key, client_id, alg=alg, aud=audience)
        assert "error" not in await edge.ask("token", {"grant_type": "client_credentials"} | proof)


async def test_bad_assertions(edge: Edge) -> None:
    """RFC 7523 §3: expired, early, too long, for or by another, without a `jti`: all get the same answer."""
    key, other = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
    client_id, _ = await edge.register("private_key_jwt", jwks=jwks(key))
    another, _ = await edge.register("private_key_jwt", jwks=jwks(other))
    now = int(time.time())
    wrong = [
        assertion(key, client_id, exp=now - 1),
        assertion(key, client_id, exp=now + 660),
        assertion(key, client_id, exp=None),
        assertion(key, client_id, nbf=now + 60),
        assertion(key, client_id, iat=now + 60),
        assertion(key, client_id, jti=None),
        assertion(key, client_id, aud="https://evil.example"),
        assertion(key, client_id, iss=another),
        assertion(key, client_id, sub=another),
        assertion(key, another),
        assertion(other, client_id),
        assertion(key, client_id) | {"client_id": another},
        assertion(key, client_id)
        | {"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"},
        assertion(key, "nobody"),
    ]
    for proof in wrong:
        assert await edge.ask("token", {"grant_type": "client_credentials"} | proof) == FAILED
    assert "error" not in await edge.ask("token", {"grant_type": "client_credentials"} | assertion(key, client_id))


async def test_an_assertion_is_good_once(edge: Edge, service: Service) -> None:
    """RFC 7523 §3: also when it is presented many times at once to both replicas, and after their restart."""
    key = ECKey.generate_key("P-256")
    client_id, _ = await edge.register("private_key_jwt", jwks=jwks(key))
    proof = assertion(key, client_id, exp=int(time.time()) + 300)
    request = {"grant_type": "client_credentials"} | proof
    answers = await asyncio.gather(*(edge.ask("token", request) for _ in range(32)))
    assert sum("access_token" in answer for answer in answers) == 1
    assert sum(answer == FAILED for answer in answers) == 31
    service.stop()
    logs = [log.read_text() for log in service.data.glob("replica-*.log")]
    assert any('"endpoint":"edge-token"' in log for log in logs), "there is where a secret might be"
    service.start()
    async with service.role("edge") as again:
        assert await again.ask("oauth.acme.edge.token", request) == FAILED
        fresh = {"grant_type": "client_credentials"} | assertion(key, client_id)
        assert "error" not in await again.ask("oauth.acme.edge.token", fresh)


async def test_one_jti_of_two_clients(edge: Edge) -> None:
    """Two clients may choose the same `jti`."""
    for _ in range(2):
        key = ECKey.generate_key("P-256")
        client_id, _secret = await edge.register("private_key_jwt", jwks=jwks(key))
        proof = assertion(key, client_id, jti="the-same")
        assert "error" not in await edge.ask("token", {"grant_type": "client_credentials"} | proof)


async def test_a_failed_authentication(edge: Edge, service: Service) -> None:
    """With a current token and with a used one: the same answer, and the family lives on."""
    client_id, secret = await edge.register("client_secret_basic")
    post, post_secret = await edge.register("client_secret_post")
    first = await edge.tokens(client_id)
    second = await edge.ask("token", refresh(first["refresh_token"]), basic(client_id, secret))
    body: dict[str, Any]
    for token in (first["refresh_token"], second["refresh_token"]):
        for headers, body in (
            (basic(client_id, "wrong"), {}),
            (basic("nobody", secret), {}),
            (basic(post, post_secret), {}),
            ({"Authorization": "Basic %%%"}, {}),
            ({}, {"client_id": client_id}),
            ({}, {"client_id": client_id, "client_secret": secret}),
            ({}, {}),
        ):
            assert await edge.ask("token", refresh(token) | body, headers) == FAILED
    for endpoint in ("revoke", "introspect"):
        assert await edge.ask(endpoint, {"token": second["refresh_token"]}, basic(client_id, "wrong")) == FAILED
    assert await edge.ask("token", {"grant_type": "x"}, basic(client_id, "wrong")) == FAILED
    assert await edge.ask("token", refresh(first["refresh_token"]), basic("web", secret), "globex") == FAILED
    assert await edge.ask("token", refresh(first["refresh_token"]), basic(client_id, secret), "globex") == FAILED
    assert await edge.ask("token", refresh(first["refresh_token"]), basic(client_id, secret), "nowhere") == FAILED
    proved = {"client_id": post, "client_secret": post_secret}
    answer = await edge.ask("token", refresh(first["refresh_token"]) | proved)
    assert answer["error"] == "invalid_grant", "another client, and it has proved who it is"
    async with service.client(client_id) as itself:
        assert await itself.active(second["refresh_token"])
        assert "error" not in await itself.refresh(second["refresh_token"])


async def test_wrong_secrets_do_not_lock_a_client_out(edge: Edge) -> None:
    """RFC 6749 §10.10: the right one is accepted while somebody guesses, also the first time it is presented."""
    client_id, secret = await edge.register("client_secret_basic")
    request = {"grant_type": "client_credentials"}
    guesses = [edge.ask("token", request, basic(client_id, f"guess {number}")) for number in range(64)]
    assert all(answer == FAILED for answer in await asyncio.gather(*guesses))
    more = [asyncio.create_task(edge.ask("token", request, basic(client_id, f"more {n}"))) for n in range(64)]
    for _ in range(16):
        assert "error" not in await edge.ask("token", request, basic(client_id, secret))
    assert all(answer == FAILED for answer in await asyncio.gather(*more))


async def _at_both_replicas(edge: Edge, request: dict[str, Any], proof: dict[str, str]) -> set[str | None]:
    """The errors, or None, of so many requests at once that every replica has some."""
    answers = await asyncio.gather(*(edge.ask("token", request, proof) for _ in range(32)))
    return {answer.get("error") for answer in answers}


async def test_two_methods_at_once(edge: Edge) -> None:
    """RFC 6749 §2.3: `invalid_request`, whichever of them is right."""
    client_id, secret = await edge.register("client_secret_basic")
    both = {"client_id": client_id, "client_secret": secret}
    answer = await edge.ask("token", {"grant_type": "client_credentials"} | both, basic(client_id, secret))
    assert answer["error"] == "invalid_request"


async def test_malformed_requests(edge: Edge) -> None:
    """Decoded as strictly as where the subject authenticates the client, at every endpoint, and answered."""
    bodies = (b"", b"[]", b'"x"', b'{"client_id": "a", "client_id": "b"}', b'{"client_secret": 1}', b'{"x": "\xff"}')
    for endpoint in ("token", "issue", "authorize", "device_authorization", "revoke", "introspect"):
        for body in (*bodies, b'{"x": "' + b"x" * 17 * 1024 + b'"}'):
            assert (await edge.caller.ask(f"oauth.acme.edge.{endpoint}", body))["error"] == "invalid_request"


async def test_a_new_secret(edge: Edge) -> None:
    """Every replica accepts it as soon as it is answered, and refuses the old one; `none` has no secret."""
    client_id, old = await edge.register("client_secret_basic")
    request = {"grant_type": "client_credentials"}
    assert await _at_both_replicas(edge, request, basic(client_id, old)) == {None}
    assert await edge.put(client_id, "client_secret_basic") == "", "it is told once"
    new = await edge.put(client_id, "client_secret_basic", rotate_secret=True)
    assert new not in ("", old)
    assert await _at_both_replicas(edge, request, basic(client_id, new)) == {None}
    assert await _at_both_replicas(edge, request, basic(client_id, old)) == {"invalid_client"}
    with pytest.raises(AssertionError, match="rotate_secret"):
        await edge.put(client_id, "none", rotate_secret=True)


async def test_a_disabled_client(edge: Edge) -> None:
    """It is refused with the right secret, also by replicas that accepted it before."""
    client_id, secret = await edge.register("client_secret_basic")
    request, proof = {"grant_type": "client_credentials"}, basic(client_id, secret)
    assert await _at_both_replicas(edge, request, proof) == {None}
    assert "error" not in await edge.operator.ask("admin.acme.client.disable", {"client_id": client_id})
    assert await _at_both_replicas(edge, request, proof) == {"invalid_client"}
    assert "error" not in await edge.operator.ask("admin.acme.client.enable", {"client_id": client_id})
    assert await _at_both_replicas(edge, request, proof) == {None}


async def test_metadata(edge: Edge) -> None:
    """RFC 8414: the methods and PKCE; RFC 8628 §4: the device authorization endpoint."""
    told = await edge.caller.ask("oauth.acme.public.metadata", {})
    assert set(told["token_endpoint_auth_methods_supported"]) == {
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    }
    assert "HS256" not in told["token_endpoint_auth_signing_alg_values_supported"]
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert told["device_authorization_endpoint"] == "nats:oauth.acme.client.{client_id}.device_authorization"


@pytest.mark.parametrize("name", ["client_id", "client_secret", "client_assertion", "client_assertion_type"])
async def test_bad_client_parameters(edge: Edge, workspace: Workspace, name: str) -> None:
    """Missing or over-long: `invalid_client`; repeated, of a wrong type or half of two: `invalid_request`."""
    settings = {"grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post"}
    secret = await workspace.register("by-post", secret=True, **settings)
    proof = {"client_id": "by-post", "client_secret": secret}
    good: dict[str, Any] = {"grant_type": "client_credentials"} | proof
    rest = {known: value for known, value in good.items() if known != name}
    before = await workspace.sequence()
    bad: list[tuple[dict[str, Any] | bytes, str]] = [
        (good | {name: value}, "invalid_request") for value in (7, 1.5, True, {"x": "y"}, ["x"], [7], [None], [["x"]])
    ]
    twice = f'{{"{name}": {json.dumps(good.get(name))}, {json.dumps(good | {name: "x"})[1:]}'
    bad.append((twice.encode(), "invalid_request"))
    if name in proof:
        bad += [(rest | more, "invalid_client") for more in ({}, {name: None}, {name: "x" * 15_000})]
    else:
        without_secret = {known: value for known, value in good.items() if known != "client_secret"}
        bad += [(good | {name: "x"}, "invalid_request"), (without_secret | {name: "x" * 15_000}, "invalid_request")]
    subject = f"oauth.{workspace.name}.edge.token"
    for body, error in bad:
        assert (await edge.caller.ask(subject, body)).get("error") == error, body
    assert await workspace.sequence() == before
    assert "access_token" in await edge.caller.ask(subject, good)
