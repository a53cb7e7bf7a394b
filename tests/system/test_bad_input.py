"""What bad input gets: the contract's error, a reply every time, and nothing written (CONTRACT §2, §3)."""

import asyncio
import json
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from events.aggregates import subjects
from events.aggregates.family import codec
from events.log.log import Log
from service.keys import base62, keyring
from service.keys.mac_tokens import Tokens, new_id, new_seed
from tests.system.service import Caller, Service

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


async def _sequence(service: Service) -> int:
    async with service.role("auditor") as auditor:
        position = await auditor.ask("audit.acme.position", {})
    return int(position["log_seq"])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_requests(service: Service, endpoint: str, body: bytes) -> None:
    """`invalid_request`, at once, and nothing in the log."""
    before = await _sequence(service)
    async with service.client() as web:
        answer = await web.ask(endpoint, body, seconds=1)
    assert answer["error"] == "invalid_request"
    assert await _sequence(service) == before


PARAMETERS: list[tuple[str, dict[str, Any], str]] = [
    ("token", {}, "invalid_request"),
    ("token", {"grant_type": "password"}, "unsupported_grant_type"),
    ("token", {"grant_type": "client_credentials"}, "unauthorized_client"),
    ("token", {"grant_type": "refresh_token"}, "invalid_request"),
    ("token", {"grant_type": "refresh_token", "refresh_token": ""}, "invalid_request"),
    ("token", {"grant_type": "refresh_token", "refresh_token": "hrt_x"}, "invalid_grant"),
    ("token", {"grant_type": "refresh_token", "refresh_token": "hrt_x", "resource": "#"}, "invalid_target"),
    ("issue", {"scope": "read"}, "invalid_request"),
    ("issue", {"sub": "", "scope": "read"}, "invalid_request"),
    ("issue", {"sub": "x" * 256, "scope": "read"}, "invalid_request"),
    ("issue", {"sub": "a\nb", "scope": "read"}, "invalid_request"),
    ("issue", {"sub": "alice", "scope": "admin"}, "invalid_scope"),
    ("issue", {"sub": "alice", "scope": "read  write"}, "invalid_scope"),
    ("issue", {"sub": "alice", "scope": "r\u00e9ad"}, "invalid_scope"),
    ("issue", {"sub": "alice", "scope": "read", "resource": "not a uri"}, "invalid_target"),
    ("issue", {"sub": "alice", "scope": "read", "resource": "https://a.example/#x"}, "invalid_target"),
    ("issue", {"sub": "alice", "scope": "read", "amr": ["x"] * 17}, "invalid_request"),
    ("revoke", {}, "invalid_request"),
    ("introspect", {"token": None}, "invalid_request"),
]


@pytest.mark.parametrize(("endpoint", "request_", "error"), PARAMETERS)
async def test_parameters(service: Service, endpoint: str, request_: dict[str, Any], error: str) -> None:
    """Each wrong parameter has the RFC's code, and writes nothing."""
    before = await _sequence(service)
    async with service.client() as web:
        assert (await web.ask(endpoint, request_))["error"] == error
    assert await _sequence(service) == before


async def test_a_client_without_the_right_to_issue(service: Service) -> None:
    """`unauthorized_client`: `may_issue` is an operator's to give."""
    async with service.client("api") as api:
        assert (await api.ask("issue", {"sub": "alice", "scope": "read"}))["error"] == "unauthorized_client"


async def test_tokens_that_are_not_good_here(service: Service) -> None:
    """Truncated, altered, of another tenant, client or kind: `invalid_grant`, inactive, and the family lives on."""
    async with service.client() as web, service.client("other") as other, service.client("web", "globex") as globex:
        mine = await web.issue()
        token = mine["refresh_token"]
        flipped = token[:20] + ("A" if token[20] != "A" else "B") + token[21:-6]
        altered = flipped + base62.encode_int(zlib.crc32(flipped.encode()), 6)
        before = await _sequence(service)
        for bad in (
            token[:-1],
            token[:-7],
            altered,
            flipped + token[-6:],
            token + "x",
            mine["access_token"],
            "x" * 9000,
        ):
            assert (await web.refresh(bad))["error"] == "invalid_grant"
            if bad != mine["access_token"]:
                assert await web.ask("introspect", {"token": bad}) == {"active": False}
                assert await web.ask("revoke", {"token": bad}) == {}
        for stranger in (other, globex):
            assert (await stranger.refresh(token))["error"] == "invalid_grant"
            assert await stranger.ask("introspect", {"token": token}) == {"active": False}
            assert await stranger.ask("introspect", {"token": mine["access_token"]}) == {"active": False}
        assert await other.ask("revoke", {"token": token}) == {}
        assert await globex.ask("revoke", {"token": token}) == {}
        assert await _sequence(service) == before
        assert "error" not in await web.refresh(token)


async def test_the_same_idempotency_key_with_another_body(service: Service) -> None:
    """`invalid_request`; and a key that is none is refused before anything is looked at."""
    async with service.client() as web:
        token = (await web.issue())["refresh_token"]
        first = await web.refresh(token, key="k")
        assert (await web.refresh(token, key="k", scope="read"))["error"] == "invalid_request"
        assert (await web.refresh(token, key="not visible"))["error"] == "invalid_request"
        assert (await web.refresh(token, key="k"))["refresh_token"] == first["refresh_token"]


async def test_an_authentic_token_of_a_generation_never_issued(service: Service) -> None:
    """CONTRACT §3.7: with keyring *and* log a thief can mint; that is noticed, recorded, and ends the family."""
    async with service.client() as web, service.role("auditor") as auditor:
        mine = await web.issue()
        keys = keyring.load(service.data / "keyring.json")
        presented = Tokens(keys, "acme", "refresh").recognise(mine["refresh_token"])
        assert presented is not None
        guessed = Tokens(keys, "acme", "refresh").mint(1, presented.family_id, 7, new_seed())
        assert (await web.refresh(guessed))["error"] == "invalid_grant"
        assert await web.active(mine["refresh_token"]), "the keyring without the family's seed does nothing"
        seed = await _seed(service, presented.family_id)
        forged = Tokens(keys, "acme", "refresh").mint(1, presented.family_id, 7, seed)
        assert (await web.refresh(forged))["error"] == "invalid_grant"
        assert not await web.active(mine["refresh_token"])
        position = await auditor.ask("audit.acme.position", {})
        incidents = await auditor.ask("audit.acme.incidents", {"min_seq": position["log_seq"], "limit": 1000})
    assert [item["type"] for item in incidents["items"] if item["family_id"] == presented.family_id] == [
        "ForgeryDetected"
    ]


async def _seed(service: Service, family_id: str) -> str:
    connection = await service.own()
    stored = await Log(connection).last_from_leader(subjects.family("acme", family_id))
    await connection.close()
    assert stored is not None
    return codec.decode(stored.body).state.seed


async def test_a_family_that_does_not_exist(service: Service) -> None:
    """A token under the service's own key for a family nobody opened: refused, nothing written."""
    token = Tokens(keyring.load(service.data / "keyring.json"), "acme", "refresh").mint(1, new_id(), 0, new_seed())
    before = await _sequence(service)
    async with service.client() as web:
        assert (await web.refresh(token))["error"] == "invalid_grant"
    assert await _sequence(service) == before


async def test_arbitrary_bytes_to_every_endpoint(service: Service) -> None:
    """Always a well-formed reply, whatever comes; afterwards the service answers as before."""
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
    """The answer once the tenant's rate lets the request in: before that, its body is not looked at."""
    while (answer := await caller.ask(subject, body)).get("error") == "slow_down":
        await asyncio.sleep(0.05)
    return answer


async def test_a_malformed_message_does_not_silence_a_replica(service: Service) -> None:
    """Headers and subjects that are not UTF-8 end nats-py's read loop; ours survives them."""
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
