"""Who the client connects as, and what becomes of its connection."""

import asyncio
import itertools
import ssl
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

import heirloom_client
from heirloom_client import Client
from heirloom_client.connections import Connections
from heirloom_client.credentials import by_secret
from tests.broker import Broker, broker
from tests.security.test_tls import authority
from tests.system.service import running
from tests.system.workspace import Workspace


def _named(workspace: Workspace, **credentials: object) -> Client:
    url = f"nats://{workspace.service.host}"
    options: dict[str, Any] = credentials
    return Client.connect(url, tenant=workspace.name, client_id="app", **options)


async def test_a_url_with_credentials(workspace: Workspace) -> None:
    """What `heirloom url --client` prints is enough."""
    await workspace.register("app")
    url = await workspace.service.url("app", workspace.name)
    async with Client.connect(url, tenant=workspace.name, client_id="app") as oauth:
        assert (await oauth.issue("alice", "read")).access_token


async def test_a_private_key(workspace: Workspace) -> None:
    """An assertion is signed for each connection (RFC 7523), since each is good once."""
    key = ECKey.generate_key("P-256")
    jwks = {"keys": [key.as_dict(private=False)]}
    await workspace.register("app", token_endpoint_auth_method="private_key_jwt", jwks=jwks)
    for given in (key, key.as_dict(private=True), key.as_pem(private=True)):
        async with _named(workspace, private_key=given) as oauth:
            assert (await oauth.issue("alice", "read")).access_token
            await oauth.close()
            assert (await oauth.issue("alice", "read")).access_token


async def test_two_kinds_of_credentials() -> None:
    """Only one can be meant."""
    with pytest.raises(ValueError, match="one of"):
        Client.connect("nats://x", tenant="t", client_id="c", secret="s", private_key={})
    with pytest.raises(ValueError, match="private"):
        Client.connect("nats://x", tenant="t", client_id="c", private_key=ECKey.generate_key("P-256", private=False))


async def test_a_wrong_secret_is_refused_at_once(workspace: Workspace) -> None:
    """And the error does not contain it."""
    await workspace.register("app", secret=True)
    with pytest.raises(heirloom_client.InvalidClient) as refusal:  # Unavailable would be what time-outs end with
        async with _named(workspace, secret="wrong-secret"):
            pass
    assert "wrong-secret" not in str(refusal.value)


async def test_nobody_there() -> None:
    """Unavailable, after the time that a request may take."""
    oauth = Client.connect("nats://u:hidden@127.0.0.1:1", tenant="t", client_id="c", timeout=0.5)
    with pytest.raises(heirloom_client.Unavailable) as refusal:
        await oauth.metadata()
    assert "hidden" not in str(refusal.value)


async def test_several_addresses(workspace: Workspace) -> None:
    """A server that is down is left for another."""
    secret = await workspace.register("app", secret=True)
    for urls in (f"nats://127.0.0.1:1,nats://{workspace.service.host}", ["127.0.0.1:1", workspace.service.host]):
        async with Client.connect(urls, tenant=workspace.name, client_id="app", secret=secret) as oauth:
            assert (await oauth.issue("alice", "read")).access_token


async def test_what_the_broker_denies_is_no_time_out(workspace: Workspace, oauth: Client) -> None:
    """The broker tells nobody but `error_cb`; the request fails at once."""
    stranger = Client(oauth._connections, workspace.name, "Another", 30)
    with pytest.raises(heirloom_client.NotPermitted):  # Unavailable after 30 s otherwise
        await stranger.introspect("x")


async def test_a_person_s_token_outlives_its_expiry(workspace: Workspace, oauth: Client) -> None:
    """The broker ends the connection when the token expires; the next has a fresh one, and the user sees no error."""
    await workspace.register("app", access_token_ttl=1)
    given = itertools.count(1)
    shown = await oauth.issue("bob", "read")
    number = 0

    async def fresh() -> str:
        nonlocal number
        number = next(given)
        return (await oauth.issue("alice", "read")).access_token

    async with _named(workspace, access_token=fresh) as person:
        async with asyncio.timeout(120):
            while number < 6:
                await person.introspect(shown.access_token)
                await asyncio.sleep(0.02)


async def test_a_client_s_own_token_opens_a_connection(workspace: Workspace, oauth: Client) -> None:
    """One of `client_credentials` stands for the client itself."""

    async def own() -> str:
        return (await oauth.client_credentials()).access_token

    async with _named(workspace, access_token=own) as itself:
        assert (await itself.issue("alice", "read")).access_token


async def test_the_service_comes_back(tmp_path: Path) -> None:
    """Requests wait for it; what was sent and had no reply is an error only where it must not be sent again."""
    with running(tmp_path / "data") as service:
        url = await service.url()
        async with Client.connect(url, tenant="acme", client_id="web", timeout=60) as oauth:
            tokens = await oauth.issue("alice", "read offline_access")
            service._command[service._command.index("--port") + 1] = service.host.rpartition(":")[2]
            service.stop()
            waiting = asyncio.create_task(oauth.introspect(tokens.access_token))
            await asyncio.to_thread(service.start)
            assert await waiting
            assert await oauth.refresh(str(tokens.refresh_token))


async def test_tls(tmp_path: Path) -> None:
    """Under a context of one's own; a broker that it does not vouch for is not reached, and is shown no secret."""
    trusted = authority(tmp_path)
    certificate, key = trusted.sign("broker")
    with running(tmp_path / "data", "--tls-cert", str(certificate), "--tls-key", str(key)) as service:
        url = (await service.url()).replace("nats://", "tls://")
        context = ssl.create_default_context(cafile=str(trusted.certificate))
        async with Client.connect(url, tenant="acme", client_id="web", tls=context) as oauth:
            assert (await oauth.issue("alice", "read")).access_token
        with pytest.raises(heirloom_client.Unavailable):
            await Client.connect(url, tenant="acme", client_id="web", timeout=1).metadata()


async def test_one_connection_at_a_time(tmp_path: Path) -> None:
    """A hundred tasks that find it lost open one together."""
    with broker(tmp_path / "broker") as server:
        connections = Connections([server.url], by_secret("t", "c", None), "test")
        links = await asyncio.gather(*(connections.link(5) for _ in range(100)))
        assert len(set(map(id, links))) == 1
        _restart(server)
        await _until_lost(links[0])
        others = await asyncio.gather(*(connections.link(10) for _ in range(100)))
        assert len({*map(id, others), id(links[0])}) == 2
        await connections.close()


def _restart(server: Broker) -> None:
    server.kill()
    server.start()


async def _until_lost(link: object) -> None:
    while link.is_open:  # type: ignore[attr-defined]  # a Link
        await asyncio.sleep(0.01)
