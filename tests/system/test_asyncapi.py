"""The service says what its subjects are, and answers as it says."""

from typing import Any

from service.endpoints.discovery import ASYNCAPI
from tests.asyncapi.test_document import DOCUMENT, valid
from tests.system.workspace import Clients, Workspace


async def test_the_document_is_served(workspace: Workspace, clients: Clients) -> None:
    """To every client of a tenant, the same one to all."""
    web = await clients("web")
    answer = await web.connection.request(f"oauth.{workspace.name}.public.asyncapi", b"{}", timeout=20)
    assert answer.data == ASYNCAPI.read_bytes()


async def test_replies_are_as_described(workspace: Workspace, clients: Clients) -> None:
    """Of the endpoints and of the administration."""
    web = await clients("web")
    tokens = await web.issue(scope="openid read offline_access")
    replies: dict[str, Any] = {
        "token": await web.refresh(tokens["refresh_token"]),
        "issue": tokens,
        "introspect": await web.ask("introspect", {"token": tokens["access_token"]}),
        "revoke": await web.ask("revoke", {"token": tokens["access_token"]}),
        "admin.role.add": await workspace.order("role.add", role="auditor", name="eve"),
        "admin.role.list": await workspace.order("role.list"),
        "admin.subject.block": await workspace.order("subject.block", sub="eve"),
        "admin.key.rotate": await workspace.order("key.rotate"),
    }
    for name, reply in replies.items():
        kind = DOCUMENT["operations"][name]["reply"]["messages"][0]["$ref"].rpartition("/")[2]
        assert kind != "Object" and valid(kind, reply) == [], name
    assert valid("ErrorResponse", await web.ask("token", {})) == []
