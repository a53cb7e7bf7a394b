"""A named role: its tenant's subjects only, an inbox of its own, revoked by itself."""

import asyncio
import itertools
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from heirloom.broker.roles import SHOWN, inbox
from service.registry.broker_accounts import ROLE_ACCOUNTS
from tests.security.connections import connected, is_accepted
from tests.security.test_connecting import ended
from tests.system.service import HEIRLOOM, Caller, Service

_numbers = itertools.count()


class Named(NamedTuple):
    """The credentials of one name."""

    name: str
    user: str
    secret: str
    inbox_prefix: str


async def added(service: Service, operator: Caller, role: str, name: str = "", tenant: str = "acme") -> Named:
    """Add a name; its credentials."""
    name = name or f"holder-{next(_numbers)}"
    answer = await operator.ask(f"admin.{tenant}.role.add", {"role": role, "name": name})
    service.secrets.append(answer["secret"])  # the service must not write it anywhere
    return Named(name, answer["user"], answer["secret"], answer["inbox_prefix"])


def options(named: Named) -> dict[str, str]:
    """The options to connect with that name."""
    return {"user": named.user, "password": named.secret, "inbox_prefix": named.inbox_prefix}


@asynccontextmanager
async def caller_of(service: Service, named: Named) -> AsyncIterator[tuple[Caller, list[str]]]:
    """A connection with that name, and the broker's errors in lower case."""
    refused: list[str] = []
    async with connected(f"nats://{service.host}", refused, **options(named)) as connection:
        yield Caller(connection, ""), refused


async def is_shut(service: Service, named: Named) -> bool:
    """Whether the broker refuses the connection."""
    return not await is_accepted(f"nats://{service.host}", **options(named))


async def all_refused(caller: Caller, refused: list[str], publish: tuple[str, ...], subscribe: tuple[str, ...]) -> None:
    """Fails if the broker allows one of these."""
    for subject in publish:
        await caller.connection.publish(subject, b"{}")
    for subject in subscribe:
        await caller.connection.subscribe(subject)
    for _ in range(2):
        await caller.connection.flush()
    said = "\n".join(refused)
    assert [subject for subject in (*publish, *subscribe) if f'"{subject.lower()}"' not in said] == []


@pytest.fixture
async def operator(service: Service) -> AsyncIterator[Caller]:
    """The operator without a name, who serves all tenants."""
    async with service.role("operator") as operator:
        yield operator


OTHERS = (
    "admin.globex.role.list", "audit.globex.position", "oauth.globex.edge.introspect", "oauth.globex.public.jwks",
    "oauth.globex.resource.revocations", "feed.entries.acme", "revocations.acme", "keys.acme",
    "tokens.acme.family.evil.live", "$JS.API.INFO", "$JS.HEIRLOOM.API.DIRECT.GET.TOKENS.tokens.globex.tenant",
    "$JS.HEIRLOOM.API.DIRECT.GET.TOKENS.tokens.globex.family.x.revoked", "$JS.HEIRLOOM.API.DIRECT.GET.TOKENS",
    "$JS.HEIRLOOM.API.STREAM.INFO.TOKENS", "oauth.acme.client.web.issue",
)  # fmt: skip
"""Subjects that no name of acme may publish to."""
OWN = {
    "operator": ("admin.acme.role.list", "audit.acme.position", "oauth.acme.edge.introspect"),
    "auditor": ("audit.acme.position", "admin.acme.role.list", "oauth.acme.edge.introspect"),
    "edge": ("oauth.acme.edge.introspect", "admin.acme.role.list", "audit.acme.position"),
    "resource": (
        "oauth.acme.edge.introspect",
        "admin.acme.role.list",
        "oauth.acme.edge.token",
        "$JS.HEIRLOOM.API.DIRECT.GET.TOKENS.tokens.acme.family.x.revoked",
    ),
}
"""For each role a subject that it gets a reply on, and two that it may not publish to."""


@pytest.mark.parametrize("role", OWN)
async def test_a_name_has_its_tenants_part_of_the_role(service: Service, operator: Caller, role: str) -> None:
    """Requests about its tenant are answered; another tenant's, another role's and the log's subjects are refused."""
    answered, *denied = OWN[role]
    async with caller_of(service, await added(service, operator, role)) as (caller, refused):
        assert json.loads((await caller.connection.request(answered, b"{}", timeout=10)).data)
        assert json.loads((await caller.connection.request("oauth.acme.public.jwks", b"", timeout=10)).data)["keys"]
        assert refused == []
        feeds: tuple[str, ...] = (
            "tokens.globex.family.*.revoked",
            "tokens.*.family.*.revoked",
            "tokens.>",
            ">",
            "_INBOX.>",
        )
        feeds += ("revocations.>", "revocations.globex", "revocations.globex.>", "keys.globex", "keys.*", "feed.>")
        await all_refused(caller, refused, (*OTHERS, *denied), feeds)


async def test_a_second_name_receives_nothing_of_the_first(service: Service, operator: Caller) -> None:
    """Neither its replies, nor those of the role without a name, nor the other way round."""
    first, second = await added(service, operator, "resource"), await added(service, operator, "resource")
    async with (
        caller_of(service, first) as (one, _),
        caller_of(service, second) as (other, refused),
        service.role("resource") as nameless,
    ):
        inboxes = (f"{first.inbox_prefix}.>", f"{inbox('resource')}.>", "_INBOX.acme.>", "_INBOX.acme.role.>")
        await all_refused(other, refused, (f"{first.inbox_prefix}.x",), inboxes)
        heard: list[Any] = []

        async def hear(message: Any) -> None:
            heard.append(message)

        for caller in (other, nameless):
            await caller.connection.subscribe(f"{first.inbox_prefix}.>", cb=hear)
            await caller.connection.subscribe(f"{caller.connection._inbox_prefix.decode()}.>", cb=hear)
        assert (await one.ask("oauth.acme.edge.introspect", {"token": "x"}))["error"] == "invalid_client"
        for caller in (other, nameless):
            await caller.connection.flush()
        assert heard == []


async def test_a_name_receives_its_tenants_revocations_only(service: Service, operator: Caller) -> None:
    """The subscription of the role without a name, to all tenants, is refused."""
    async with (
        caller_of(service, await added(service, operator, "resource")) as (resource, refused),
        service.client() as web,
    ):
        heard: asyncio.Queue[str] = asyncio.Queue()

        async def hear(message: Any) -> None:
            heard.put_nowait(message.subject)

        await resource.connection.subscribe("tokens.acme.family.*.revoked", cb=hear)
        await resource.connection.flush()
        tokens = await web.issue(scope="read offline_access")
        await web.ask("revoke", {"token": tokens["refresh_token"]})
        async with asyncio.timeout(10):
            assert (await heard.get()).startswith("tokens.acme.family.")
        assert refused == []


async def test_a_name_hears_its_tenants_feed_only(service: Service, operator: Caller) -> None:
    """Of two tenants in which the same happens; and asks for its own alone."""
    async with (
        caller_of(service, await added(service, operator, "resource")) as (resource, refused),
        service.client() as web,
        service.client("web", "globex") as other,
    ):
        heard: asyncio.Queue[Any] = asyncio.Queue()

        async def hear(message: Any) -> None:
            heard.put_nowait((message.subject, json.loads(message.data)))

        for subject in ("revocations.acme", "revocations.acme.>", "keys.acme"):
            await resource.connection.subscribe(subject, cb=hear)
        async with asyncio.timeout(60):
            while "type" in (await heard.get())[1]:
                pass  # what came before the first heartbeat
        begun = await resource.ask("oauth.acme.resource.revocations", {})
        assert [key["kid"] for key in begun["keys"]] and begun["issuer"] == "https://acme.example"
        for caller in (other, web):
            tokens = await caller.issue(scope="read offline_access")
            await caller.ask("revoke", {"token": tokens["refresh_token"]})
        found: list[tuple[str, dict[str, Any]]] = []
        async with asyncio.timeout(30):
            while not any("type" not in entry and entry["n"] > begun["n"] for _, entry in found):
                found.append(await heard.get())
        subjects = [subject for subject, entry in found if "type" in entry and entry["n"] > begun["n"]]
        page = await resource.ask("oauth.acme.resource.revocations", {"after": begun["n"], "feed": begun["feed"]})
        assert len(subjects) == len(page["entries"]) == 1 and subjects[0].startswith("revocations.acme.")
        assert page["entries"][0]["family_id"] == subjects[0].rpartition(".")[2]
        assert refused == []


async def test_a_revoked_name_is_out_at_once(service: Service, operator: Caller) -> None:
    """On every replica, for good; other names stay; the same name added again has new credentials."""
    gone, stays = await added(service, operator, "edge"), await added(service, operator, "edge")
    async with caller_of(service, gone) as (leaving, _), caller_of(service, stays) as (staying, _):
        revoked = await operator.ask("admin.acme.role.revoke", {"name": gone.name, "reason": "sold"})
        for _ in range(6):  # any replica may answer the broker
            assert await is_shut(service, gone)
        await ended(leaving, 5)
        assert await operator.ask("admin.acme.role.revoke", {"name": gone.name}) == revoked, "already done"
        assert staying.connection.is_connected
        listed = (await operator.ask("admin.acme.role.list", {}))["items"]
        status = {item["name"]: item["status"] for item in listed}
        assert (status[gone.name], status[stays.name]) == ("revoked", "live")
        assert "secret" not in json.dumps(listed)
        again = await added(service, operator, "resource", gone.name)
        assert await is_shut(service, gone) and not await is_shut(service, again)


async def test_unusable_names_and_credentials(service: Service, operator: Caller) -> None:
    """Refused with the reason; a name in use cannot be added again."""
    named = await added(service, operator, "auditor")
    for tenant, request in (
        ("acme", {"role": "auditor", "name": named.name}),
        ("acme", {"role": "service", "name": "x"}),
        ("acme", {"role": "resource", "name": "a.b"}),
        ("acme", {"role": "resource", "name": "*"}),
        ("acme", {"role": "resource"}),
        ("acme", {"name": "x"}),
        ("nobody", {"role": "resource", "name": "x"}),
    ):
        assert (await operator.ask(f"admin.{tenant}.role.add", request))["error"] == "invalid_request"
    assert (await operator.ask("admin.acme.role.revoke", {"name": "nobody"}))["error"] == "invalid_request"
    for user, secret in (
        (named.user, named.secret[::-1]),
        (named.user, ""),
        (named.user.replace("acme", "globex"), named.secret),
        (named.user.replace(".role.", "."), named.secret),
        ("acme.role.>", named.secret),
        ("acme.role.*", named.secret),
    ):
        assert await is_shut(service, named._replace(user=user, secret=secret))


def test_the_role_commands(service: Service) -> None:
    """`heirloom admin role`: add prints a URL that connects, list shows it, revoke ends it; the log verifies after."""

    def heirloom(*arguments: str) -> str:
        command = [str(HEIRLOOM), *arguments, "--data", str(service.data)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done
        return done.stdout

    told = json.loads(heirloom("admin", "role", "add", "resource", "api", "--tenant", "acme", "--json"))
    service.secrets.append(told["secret"])
    assert told["url"] == f"nats://acme.role.api:{told['secret']}@{service.host}"
    assert asyncio.run(is_accepted(told["url"]))
    assert "api" in heirloom("admin", "role", "list", "--tenant", "acme")
    heirloom("admin", "role", "revoke", "api", "--tenant", "acme", "--reason", "test")
    assert not asyncio.run(is_accepted(told["url"]))
    heirloom("audit", "verify")


def test_other_commands_accept_a_names_url(service: Service) -> None:
    """Each acts for its tenant; commands that read every tenant's log are refused in one line."""
    urls: dict[str, str] = {}

    def heirloom(*arguments: str, role: str = "") -> subprocess.CompletedProcess[str]:
        url = {"HEIRLOOM_NATS": urls[role]} if role else {}
        data = () if role else ("--data", str(service.data))
        command = [str(HEIRLOOM), *arguments, *data]
        environment = os.environ | url
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    for role in ("auditor", "operator"):
        added = heirloom("admin", "role", "add", role, f"by-url-{role}", "--tenant", "acme", "--json")
        told = json.loads(added.stdout)
        service.secrets.append(told["secret"])
        urls[role] = told["url"]
    for tenant in ((), ("--tenant", "acme")):
        asked = heirloom("audit", "families", *tenant, role="auditor")
        assert asked.returncode == 0, asked
        ordered = heirloom("admin", "role", "list", *tenant, role="operator")
        assert ordered.returncode == 0 and "by-url-auditor" in ordered.stdout, ordered
    for command, role in (
        (("audit", "families"), "operator"),
        (("admin", "role", "list"), "auditor"),
        (("audit", "families", "--tenant", "globex"), "auditor"),
    ):
        refused = heirloom(*command, role=role)
        assert refused.returncode == 1 and "`heirloom admin role add" in refused.stderr, refused
    for reading in (("verify",), ("export", "--tenant", "acme"), ("checkpoint",), ("prove", "--seq", "1")):
        refused = heirloom("audit", *reading, role="auditor")
        assert refused.returncode == 1 and "every tenant's" in refused.stderr, refused
        assert not refused.stdout


def test_names_are_in_their_roles_account() -> None:
    """The service's table of accounts equals the broker's configuration."""
    assert {name: role.account for name, role in SHOWN.items()} == ROLE_ACCOUNTS
