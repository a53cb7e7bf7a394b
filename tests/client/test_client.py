"""Every method of the client, against a running service."""

import asyncio
import base64
import hashlib

import pytest

import heirloom_client
from heirloom_client import Client
from tests.client.conftest import connected
from tests.system.workspace import REDIRECT, Workspace

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


async def test_a_refresh_token_from_its_issue_to_its_end(oauth: Client) -> None:
    """Issued, refreshed, introspected, revoked: RFC 6749 §6, RFC 7662, RFC 7009."""
    first = await oauth.issue("alice", "read offline_access", acr="gold", amr=["pwd"], auth_time=1)
    assert first.refresh_token is not None
    second = await oauth.refresh(first.refresh_token, scope="read")
    assert (second.scope, second.token_type) == ("read", "Bearer")
    assert 290 < second.expires_in <= 302
    assert second.refresh_token not in (None, first.refresh_token)
    shown = await oauth.introspect(second.access_token)
    assert shown
    assert (shown.claims["sub"], shown.claims["acr"]) == ("alice", "gold")
    await oauth.revoke(str(second.refresh_token))
    assert not await oauth.introspect(second.access_token)
    with pytest.raises(heirloom_client.InvalidGrant):
        await oauth.refresh(str(second.refresh_token))


async def test_the_same_key_gets_the_same_successor(oauth: Client) -> None:
    """The contract's "retry without fear"; without a key the second use is a theft."""
    first = str((await oauth.issue("alice", "read offline_access")).refresh_token)
    again = [await oauth.refresh(first, idempotency_key="once") for _ in range(2)]
    assert again[0].refresh_token == again[1].refresh_token
    with pytest.raises(heirloom_client.InvalidGrant):
        await oauth.refresh(first)


async def test_a_code(workspace: Workspace, oauth: Client) -> None:
    """A login service gets it, and the app redeems it: RFC 6749 §4.1, RFC 7636."""
    async with await connected(workspace, "login") as login:
        code = await login.authorize("app", "alice", "read", CHALLENGE, REDIRECT, nonce="n")
        tokens = await oauth.redeem(code.code, VERIFIER, REDIRECT)
    assert tokens.scope == "read"
    with pytest.raises(heirloom_client.InvalidGrant):
        await oauth.redeem(code.code, VERIFIER, REDIRECT)


async def test_a_device(workspace: Workspace, oauth: Client) -> None:
    """It waits until the person has approved: RFC 8628. A refusal and a wrong user code are errors."""
    device = await oauth.device("read")
    refused = await oauth.device("read")
    assert device.user_code in str(device.verification_uri_complete)
    with pytest.raises(heirloom_client.AuthorizationPending):
        await device.poll()
    async with await connected(workspace, "login") as login:
        await login.answer_device(device.user_code, "alice", approved=True)
        await login.answer_device(refused.user_code, "alice", approved=False)
        with pytest.raises(heirloom_client.InvalidGrant):
            await login.answer_device(device.user_code, "alice", approved=True)
    tokens = await asyncio.wait_for(device.tokens(), 30)
    assert tokens.scope == "read"
    with pytest.raises(heirloom_client.AccessDenied):
        await refused.tokens()


async def test_an_exchange(workspace: Workspace, oauth: Client) -> None:
    """Another service makes the token that it was shown into one of its own: RFC 8693."""
    shown = await oauth.issue("alice", "read write")
    async with await connected(workspace, "orders") as orders:
        exchanged = await orders.exchange(shown.access_token, scope="read")
    assert exchanged.scope == "read"
    assert exchanged.issued_token_type == "urn:ietf:params:oauth:token-type:access_token"


async def test_the_client_s_own_token_and_the_metadata(workspace: Workspace, oauth: Client) -> None:
    """RFC 6749 §4.4 and RFC 8414."""
    tokens = await oauth.client_credentials("read")
    assert (await oauth.introspect(tokens.access_token)).claims["sub_type"] == "client"
    assert (await oauth.metadata())["issuer"] == workspace.issuer


@pytest.mark.parametrize(
    ("kind", "code"), [(heirloom_client.InvalidScope, "invalid_scope"), (heirloom_client.Error, "invalid_scope")]
)
async def test_a_refusal_has_the_name_of_its_code(oauth: Client, kind: type[heirloom_client.Error], code: str) -> None:
    """RFC 6749 §5.2: a subclass of `Error`, with the code, the description and the status."""
    with pytest.raises(kind) as refusal:
        await oauth.issue("alice", "more")
    assert (refusal.value.code, refusal.value.status) == (code, 400)
    assert refusal.value.description


async def test_no_repr_shows_a_token(oauth: Client) -> None:
    """Nor does an error."""
    tokens = await oauth.issue("alice", "openid read offline_access")
    shown = f"{tokens!r} {tokens} {tokens.__rich_repr__()} {oauth!r}"
    for token in (tokens.access_token, tokens.refresh_token, tokens.id_token):
        assert token is not None
        assert token not in shown
    await oauth.revoke(str(tokens.refresh_token))
    with pytest.raises(heirloom_client.InvalidGrant) as refusal:
        await oauth.refresh(str(tokens.refresh_token))
    assert str(tokens.refresh_token) not in repr(refusal.getrepr(showlocals=False))
    assert str(tokens.refresh_token) not in f"{refusal.value!r} {refusal.value}"
