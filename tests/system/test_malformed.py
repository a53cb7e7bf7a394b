"""Malformed requests: the contract's error, a reply every time, and nothing written (CONTRACT §2, §3)."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.system.service import Caller, Service
from tests.system.workspace import Clients, Workspace

ENDPOINTS = ("token", "issue", "revoke", "introspect")


MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"grant_type=refresh_token",
    "array": b"[]",
    "null": b"null",
    "duplicate key": b'{"grant_type": "refresh_token", "grant_type": "refresh_token", "token": "x", "sub": "x"}',
    "wrong type": b'{"grant_type": 1, "sub": 1, "token": 1}',
    "17 KiB": json.dumps({"token": "x" * 17 * 1024}).encode(),
    "not UTF-8": b'{"token": "\xff"}',
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_malformed_requests(workspace: Workspace, clients: Clients, endpoint: str) -> None:
    """`invalid_request`, at once, and nothing in the log."""
    web, before = await clients("web"), await workspace.sequence()
    for name, body in MALFORMED.items():
        assert (await web.ask(endpoint, body, seconds=1))["error"] == "invalid_request", name
    assert await workspace.sequence() == before


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("token", {"grant_type": "password"}, "unsupported_grant_type"),
    ("token", {"grant_type": "client_credentials"}, "unauthorized_client"),
    ("token", {"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request"),
    ("token", {"grant_type": "refresh_token", "refresh_token": "hrt_x"}, "invalid_grant"),
    ("token", {"grant_type": "refresh_token", "refresh_token": "hrt_x", "resource": "#"}, "invalid_target"),
    ("issue", {"sub": "a\nb", "scope": "read"}, "invalid_request"),
    ("issue", {"sub": "alice", "scope": "admin"}, "invalid_scope"),
    ("issue", {"sub": "alice", "scope": "read  write"}, "invalid_scope"),
    ("issue", {"sub": "alice", "scope": "r\u00e9ad"}, "invalid_scope"),
    ("issue", {"sub": "alice", "scope": "read", "resource": "not a uri"}, "invalid_target"),
    ("issue", {"sub": "alice", "scope": "read", "resource": "https://a.example/#x"}, "invalid_target"),
]


async def test_wrong_values(workspace: Workspace, clients: Clients) -> None:
    """Each with the RFC's error, and nothing in the log."""
    plain = await clients("plain")
    before = await workspace.sequence()
    for endpoint, request, error in WRONG:
        assert (await plain.ask(endpoint, request))["error"] == error, request
    assert await workspace.sequence() == before


async def test_arbitrary_bytes_to_every_endpoint(service: Service) -> None:
    """The reply is always well-formed; afterwards the service answers as before."""
    shapes = st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
            max_leaves=8,
        ).map(lambda value: json.dumps(value).encode()),
        st.fixed_dictionaries(
            {},
            optional={
                name: st.text(max_size=40) | st.integers() | st.lists(st.text(max_size=5), max_size=3)
                for name in ("grant_type", "refresh_token", "scope", "resource", "token", "sub", "acr", "amr")
            }
            | {"grant_type": st.sampled_from(["refresh_token", "client_credentials", "password"])},
        ).map(lambda value: json.dumps(value).encode()),
    )
    collected: list[bytes] = []

    @settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(shapes)
    def collect(body: bytes) -> None:
        collected.append(body)

    collect()
    async with service.client() as web, service.role("operator") as operator, service.role("auditor") as auditor:

        async def everywhere(body: bytes) -> None:
            for endpoint in ENDPOINTS:
                answer = await web.ask(endpoint, body)
                assert answer.get("error") in (
                    None,
                    "invalid_request",
                    "invalid_grant",
                    "invalid_scope",
                    "invalid_target",
                    "unsupported_grant_type",
                    "unauthorized_client",
                )
            for subject in ("admin.fuzz.tenant.put", "admin.acme.family.revoke", "admin.nobody.client.put"):
                answer = await _asked_in_time(operator, subject, body)
                assert answer.get("error") in (None, "invalid_request")
            for query in ("family", "families", "revocations", "incidents", "position"):
                answer = await _asked_in_time(auditor, f"audit.acme.{query}", body)
                assert answer.get("error") in (None, "invalid_request", "temporarily_unavailable")

        for start in range(0, len(collected), 16):
            await asyncio.gather(*(everywhere(body) for body in collected[start : start + 16]))
        assert "access_token" in await web.issue()


async def _asked_in_time(caller: Caller, subject: str, body: bytes) -> dict[str, Any]:
    """The answer once the tenant's rate admits the request: until then its body is not decoded."""
    while (answer := await caller.ask(subject, body)).get("error") == "slow_down":
        await asyncio.sleep(0.05)
    return answer


async def test_a_malformed_message_does_not_silence_a_replica(service: Service) -> None:
    """Headers that are not UTF-8 end nats-py's own read loop; ours survives them."""
    header = b"NATS/1.0 \xff\xff\xff\r\n\r\n"
    async with service.client() as web, service.role("operator") as operator:
        for caller, subject in ((web, b"oauth.acme.client.web.token"), (operator, b"admin.acme.tenant.put")):
            for _ in range(8):  # both replicas
                size = str(len(header)).encode()
                total = str(len(header) + 2).encode()
                message = b"HPUB " + subject + b" reply " + size + b" " + total + b"\r\n" + header + b"{}\r\n"
                assert caller.connection._transport is not None
                caller.connection._transport.write(message)
            await caller.connection.flush()
        for _ in range(8):
            assert "access_token" in await web.issue()
            assert "seq" in await operator.ask("admin.acme.tenant.put", {"issuer": "https://acme.example"})
