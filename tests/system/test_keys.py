"""Keys pass on: next, active, retired; and nothing that was given stops being good before its time."""

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import jwt

from tests.system.service import HEIRLOOM, Caller, Service, running


async def _jwks(caller: Caller) -> list[str]:
    reply = await caller.connection.request("oauth.acme.public.jwks", b"{}", timeout=5)
    return [key["kid"] for key in json.loads(reply.data)["keys"]]


def _kid(tokens: dict[str, Any]) -> str:
    kid: str = jwt.get_unverified_header(tokens["access_token"])["kid"]
    return kid


async def test_a_signing_key_is_published_before_it_signs(service: Service) -> None:
    """The JWKS shows the next key; `key.rotate` makes it sign on every replica, and the retired one still verifies."""
    async with service.client() as web, service.role("operator") as operator:
        for _ in range(3):
            before = await web.issue()
            published = await _jwks(web)
            rotated = await operator.ask("admin.acme.key.rotate", {})
            assert rotated["kid"] in published, "it was not published before its first use"
            assert rotated["kid"] != _kid(before)
            after = [await web.issue() for _ in range(8)]  # both replicas
            assert {_kid(tokens) for tokens in after} == {rotated["kid"]}
            assert _kid(before) in await _jwks(web)
            assert await web.active(before["access_token"])


async def test_rotations_at_once(service: Service) -> None:
    """Two operators at once: afterwards one key signs, one is next, and both replies name a key that signs."""
    async with service.client() as web, service.role("operator") as operator:
        answers = await asyncio.gather(*(operator.ask("admin.acme.key.rotate", {}) for _ in range(4)))
        signing = {_kid(await web.issue()) for _ in range(8)}
        assert len(signing) == 1
        assert signing <= {answer["kid"] for answer in answers if "error" not in answer}


async def test_another_algorithm_from_the_next_rotation_on(tmp_path: Path) -> None:
    """`signing_alg` changed: the next key is of that kind, and signs after the rotation and after a restart."""
    with running(tmp_path / "data") as service:
        async with service.client() as web, service.role("operator") as operator:
            settings = {"issuer": "https://acme.example", "signing_alg": "Ed25519"}
            assert "seq" in await operator.ask("admin.acme.tenant.put", settings)
            assert jwt.get_unverified_header((await web.issue())["access_token"])["alg"] == "ES256"
            rotated = await operator.ask("admin.acme.key.rotate", {})
            assert jwt.get_unverified_header((await web.issue())["access_token"])["alg"] == "EdDSA"
        service.stop()
        service.start()
        async with service.client() as web:
            assert _kid(await web.issue()) == rotated["kid"], "it was not the rotated key that the log says is active"


async def test_the_mac_key_rotates(tmp_path: Path) -> None:
    """A new secret: new tokens under it, old ones still good, also for a retry; and after a restart."""
    with running(tmp_path / "data", "--replicas", "2") as service:
        async with service.client() as web, service.role("operator") as operator:
            assert (await operator.ask("admin.acme.key.rotate", {"use": "mac"}))["error"] == "invalid_request"
            first = await web.issue()
            second = await web.refresh(first["refresh_token"], key="k")
            subprocess.run([HEIRLOOM, "keyring", "add", "--data", service.data], check=True, capture_output=True)
            assert (await operator.ask("admin.acme.key.rotate", {"use": "mac"}))["kid"] == "mac-2"
            assert {(await web.issue())["refresh_token"][4:6] for _ in range(8)} == {"02"}
            again = await web.refresh(first["refresh_token"], key="k")
            assert again["refresh_token"] == second["refresh_token"]
            third = await web.refresh(second["refresh_token"])
            assert third["refresh_token"][4:6] == "02"
            await operator.ask("admin.later.tenant.put", {})
            settings = {"client_id": "web", "scope": "offline_access", "may_issue": True, "generate_secret": False}
            await operator.ask("admin.later.client.put", settings, seconds=30)
        async with service.client("web", "later") as later:
            new = await later.issue(scope="offline_access")
            assert new["refresh_token"][4:6] == "02", "the older secret may have leaked: nothing new is under it"
        service.stop()
        service.start()
        async with service.client() as web:
            assert "error" not in await web.refresh(third["refresh_token"])


async def test_rotate_refuses(service: Service) -> None:
    """An unknown tenant, an unknown use."""
    async with service.role("operator") as operator:
        assert (await operator.ask("admin.nobody.key.rotate", {}))["error"] == "invalid_request"
        assert (await operator.ask("admin.acme.key.rotate", {"use": "enc"}))["error"] == "invalid_request"
