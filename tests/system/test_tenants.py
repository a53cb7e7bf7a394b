"""Tenants: separate issuers, keys and clients (CONTRACT §4)."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from heirloom.broker.roles import SHOWN
from tests.system.service import Caller
from tests.system.workspace import INACTIVE, REDIRECT, Clients, Workspace, claims, made


async def test_tenants_are_separate(workspace: Workspace, clients: Clients) -> None:
    """A client of the same name in another tenant cannot use this one's tokens; issuers and keys differ."""
    web = await clients("web")
    mine = await web.issue()
    async with workspace.service.client("web", "acme") as acme:
        theirs = await acme.issue()
        for token in (mine["refresh_token"], mine["access_token"]):
            assert await acme.ask("introspect", {"token": token}) == INACTIVE
            assert await acme.ask("revoke", {"token": token}) == {}
        assert (await acme.refresh(mine["refresh_token"]))["error"] == "invalid_grant"
        keys = await Caller(acme.connection, "").ask("oauth.acme.public.jwks", {})
        ours = await Caller(web.connection, "").ask(f"oauth.{workspace.name}.public.jwks", {})
    assert claims(mine["access_token"])["iss"] == workspace.issuer != claims(theirs["access_token"])["iss"]
    assert not {key["kid"] for key in keys["keys"]} & {key["kid"] for key in ours["keys"]}
    assert "access_token" in await web.refresh(mine["refresh_token"])


async def test_an_issuer_belongs_to_one_tenant(workspace: Workspace) -> None:
    """RFC 8414 §2: also when two tenants request it at once, at any replica."""
    async with made(workspace.service) as other:
        answer = await other.refused("tenant.put", issuer=workspace.issuer)
        assert "another tenant" in answer["error_description"]
        await other.settings(access_token_ttl=60)
        for number in range(4):
            shared = f"https://shared{number}.example"
            racing = (
                tenant.operator.ask(f"admin.{tenant.name}.tenant.put", {"issuer": shared}, seconds=30)
                for tenant in (workspace, other)
            )
            answers = await asyncio.gather(*racing)
            assert sorted("error" in answer for answer in answers) == [False, True], answers
            for tenant in (workspace, other):
                await tenant.settings()


async def test_a_tenant_sets_how_its_clients_authenticate(workspace: Workspace) -> None:
    """RFC 7591, CONTRACT §4: a default for its clients; no secret is made where none is used."""
    await workspace.settings(token_endpoint_auth_method="none", redirect_uris=[REDIRECT])
    assert await workspace.register("mobile", secret=True) == ""
    assert await workspace.register("web", secret=True, token_endpoint_auth_method="client_secret_post") != ""
    rotating = {"client_id": "mobile", "refresh_token_rotation": "reuse"}
    assert "must rotate" in (await workspace.refused("client.put", **rotating))["error_description"]


async def test_who_reads_the_metadata_and_the_keys(workspace: Workspace, clients: Clients) -> None:
    """RFC 8414 §3: the tenant's clients and every role of `heirloom url`, and no other tenant's clients."""
    app = await clients("app")
    subjects = [f"oauth.{workspace.name}.public.{what}" for what in ("jwks", "metadata")]
    async with AsyncExitStack() as stack:
        roles = [await stack.enter_async_context(workspace.service.role(role)) for role in SHOWN]
        stranger = await stack.enter_async_context(workspace.service.client("web", "acme"))
        for caller in (*roles, Caller(app.connection, "")):
            keys, metadata = [await caller.ask(subject, {}) for subject in subjects]
            assert keys["keys"] and metadata["issuer"] == workspace.issuer
        for subject in subjects:
            with pytest.raises(NatsTimeoutError):
                await stranger.connection.request(subject, b"{}", timeout=0.3)
