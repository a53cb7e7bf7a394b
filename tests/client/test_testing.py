"""The testing kit: an example is tested with it, and its issuer keeps the promises of the real one."""

import asyncio
import importlib.util
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from heirloom_client import Client, FileStore, InvalidGrant, InvalidRequest, InvalidScope, Unavailable
from heirloom_client import clock as the_clock
from heirloom_client.testing import Issuer
from tests.client.test_package import CLIENT

SCOPE = "read write offline_access"
PAGE = CLIENT.parent / "docs" / "connect.md"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """Of access tokens of five minutes."""
    async with Issuer() as issuer:
        yield issuer


@pytest.fixture
def oauth(issuer: Issuer) -> Client:
    """Its client `web`."""
    return issuer.client()


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, CLIENT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_the_microservice_of_the_examples(issuer: Issuer, oauth: Client, tmp_path: Path) -> None:
    """As its author would test it: without a broker, with time that passes, lost replies and a revocation."""
    microservice = _example("microservice")
    source = oauth.source(await oauth.issue("alice", SCOPE), store=FileStore(tmp_path / "alice"))
    assert [await microservice.call(source) for _ in range(3)] == [200, 200, 200], "once more after each 401"
    issuer.advance(3600)
    issuer.lose_replies(2)
    assert await microservice.call(source) == 200
    issuer.revoke("alice")
    issuer.advance(3600)
    with pytest.raises(InvalidGrant):
        await microservice.call(source)


async def test_the_example_of_the_page_runs() -> None:
    """As it stands in `docs/connect.md`."""
    found = re.search(r"```python\n(from heirloom_client\.testing.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"pytest": pytest, "InvalidGrant": InvalidGrant}
    exec(found[1], names)
    await names["test_it_refreshes_and_logs_in_again"]()


async def test_time_passes_for_both(issuer: Issuer, oauth: Client) -> None:
    """What is handed out is good for the issuer too; the clock is right again afterwards."""
    source = oauth.source(await oauth.issue("alice", SCOPE))
    first = await source.token()
    issuer.advance(299)
    assert issuer.is_active(first.access_token)
    issuer.advance(1)
    assert not issuer.is_active(first.access_token)
    second = await source.token()
    assert second.access_token != first.access_token and (await oauth.introspect(second.access_token)).active
    assert issuer.requests == ["issue", "token", "introspect"]
    async with issuer:
        pass
    assert the_clock.ahead == 0


async def test_the_promises_about_refresh_tokens(issuer: Issuer, oauth: Client) -> None:
    """CONTRACT §3: one successor, the same for the same key; a late duplicate ends nothing, a theft all."""
    first = str((await oauth.issue("alice", SCOPE)).refresh_token)
    second = await oauth.refresh(first, idempotency_key="one")
    assert await oauth.refresh(first, idempotency_key="one") == second
    with pytest.raises(InvalidRequest):
        await oauth.refresh(first, scope="read", idempotency_key="one")
    with pytest.raises(InvalidScope):
        await oauth.refresh(str(second.refresh_token), scope="admin")
    third = await oauth.refresh(str(second.refresh_token), scope="read", idempotency_key="two")
    assert third.scope == "read"
    with pytest.raises(InvalidGrant):
        await oauth.refresh(first, idempotency_key="one")
    assert issuer.is_active(third.access_token), "a late duplicate"
    with pytest.raises(InvalidGrant):
        await oauth.refresh(first, idempotency_key="another")
    assert not issuer.is_active(third.access_token), "a theft"


async def test_revocations_and_clients(issuer: Issuer, oauth: Client) -> None:
    """One access token, a family, and another client's token."""
    tokens, mine = await oauth.issue("alice", SCOPE), await oauth.client_credentials("read")
    with pytest.raises(InvalidGrant):
        await issuer.client("other").refresh(str(tokens.refresh_token))
    await oauth.revoke(mine.access_token)
    assert not issuer.is_active(mine.access_token) and issuer.is_active(tokens.access_token)
    await oauth.revoke(str(tokens.refresh_token))
    assert not (await oauth.introspect(tokens.access_token)).active


async def test_lost_replies(issuer: Issuer, oauth: Client) -> None:
    """What was carried out has been carried out: a refresh with a key may be sent again, an issue may not."""
    tokens = await oauth.issue("alice", SCOPE)
    issuer.lose_replies()
    assert (await oauth.refresh(str(tokens.refresh_token), idempotency_key="k")).refresh_token
    issuer.lose_replies()
    with pytest.raises(Unavailable):
        await oauth.issue("alice", SCOPE)
    source = oauth.source(await oauth.issue("bob", SCOPE))
    source.rejected(await source.token())
    issuer.lose_replies(3)
    tokens_of_all = await asyncio.gather(*(source.token() for _ in range(20)))
    assert len({each.access_token for each in tokens_of_all}) == 1
