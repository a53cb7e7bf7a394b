"""Key rotation: next, active, retired; tokens stay valid until they expire."""

import asyncio
from typing import Any

import jwt
from click.testing import CliRunner

from heirloom.cli.main import main
from tests.system.service import Caller, Service
from tests.system.workspace import Workspace, made


async def _jwks(caller: Caller) -> list[str]:
    keys = await Caller(caller.connection, "").ask("oauth.acme.public.jwks", {})
    return [key["kid"] for key in keys["keys"]]


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
    """Concurrent rotations leave one signing key, which one of the replies names."""
    async with service.client() as web, service.role("operator") as operator:
        answers = await asyncio.gather(*(operator.ask("admin.acme.key.rotate", {}) for _ in range(4)))
        signing = {_kid(await web.issue()) for _ in range(8)}
        assert len(signing) == 1
        assert signing <= {answer["kid"] for answer in answers if "error" not in answer}


async def test_rotations_survive_a_restart(service: Service, workspace: Workspace) -> None:
    """The signing key is the log's active one, and a token under the new secret is valid."""
    await workspace.register("web")
    signing = await _another_algorithm(workspace)
    token = await _another_secret(workspace)
    service.stop()
    service.start()
    async with workspace.client("web") as web:
        assert _kid(await web.issue()) == signing, "it was not the rotated key that the log says is active"
        assert "error" not in await web.refresh(token)


async def _another_algorithm(workspace: Workspace) -> str:
    """Change `signing_alg` and rotate: the next key is of that algorithm; its `kid`."""
    async with workspace.client("web") as web:
        await workspace.settings(signing_alg="Ed25519")
        assert jwt.get_unverified_header((await web.issue())["access_token"])["alg"] == "ES256"
        rotated = await workspace.order("key.rotate")
        assert jwt.get_unverified_header((await web.issue())["access_token"])["alg"] == "EdDSA"
    return str(rotated["kid"])


async def _another_secret(workspace: Workspace) -> str:
    """Add a secret: new tokens are under it, old ones valid, also for a retry; a refresh token under it."""
    async with workspace.client("web") as web:
        assert (await workspace.refused("key.rotate", use="mac"))["error"] == "invalid_request"
        first = await web.issue()
        second = await web.refresh(first["refresh_token"], key="k")
        added = CliRunner().invoke(main, ["keyring", "add", "--data", str(workspace.service.data)])
        assert added.exit_code == 0, added.output
        assert (await workspace.order("key.rotate", use="mac"))["kid"] == "mac-2"
        assert {(await web.issue())["refresh_token"][4:6] for _ in range(8)} == {"02"}
        again = await web.refresh(first["refresh_token"], key="k")
        assert again["refresh_token"] == second["refresh_token"]
        third = await web.refresh(second["refresh_token"])
        assert third["refresh_token"][4:6] == "02"
    async with made(workspace.service) as later:
        await later.register("web")
        async with later.client("web") as web:
            new = await web.issue()
            assert new["refresh_token"][4:6] == "02", "the older secret may have leaked: no new token is under it"
    return str(third["refresh_token"])


async def test_bad_rotations(service: Service) -> None:
    """An unknown tenant, an unknown use."""
    async with service.role("operator") as operator:
        assert (await operator.ask("admin.nobody.key.rotate", {}))["error"] == "invalid_request"
        assert (await operator.ask("admin.acme.key.rotate", {"use": "enc"}))["error"] == "invalid_request"
