"""A console over HTTP without a socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from heirloom.console.access_gate import COOKIE
from heirloom.console.options import ConsoleOptions
from heirloom.console.serve import create
from projections.read_model import ReadModel
from tests.projections.logs import eventful_log

LOG = eventful_log()
TOKEN = "the-token-of-these-tests-0123456789"
HTML = {"accept": "text/html"}


def make(path: Path, upto: int = len(LOG)) -> Path:
    """A read model of the eventful log, up to a commit."""
    model = ReadModel(path)
    model.apply(LOG[:upto])
    model.close()
    return path


class Site:
    """One browser at the console."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, path: str, **options: Any) -> httpx.Response:
        """GET as a browser that expects a page."""
        return await self.client.get(path, **{"headers": HTML, **options})

    async def page(self, path: str) -> str:
        """A page that must exist."""
        response = await self.get(path)
        assert response.status_code == 200, response.text
        return response.text

    async def rows(self, query: str, **parameters: str) -> list[dict[str, Any]]:
        """The rows of a canned query or a view."""
        asked = {**parameters, "_shape": "array"}
        response = await self.get(f"/read-model/{query}.json", params=asked)
        assert response.status_code == 200, response.text
        rows: list[dict[str, Any]] = response.json()
        return rows

    async def log_in(self, token: str = TOKEN, **options: Any) -> httpx.Response:
        """Post the login form."""
        return await self.client.post("/login", data={"token": token, "next": "/"}, **options)

    @property
    def cookie(self) -> str | None:
        """The session cookie."""
        return self.client.cookies.get(COOKIE)


@asynccontextmanager
async def site(read_model: Path, *, logged_in: bool = True, login: bool = True, **options: Any) -> AsyncIterator[Site]:
    """A console over that read model, and a browser at it."""
    console = await create(ConsoleOptions(read_model, login=login, **options), TOKEN if login else None)
    transport = httpx.ASGITransport(app=console.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8001") as client:
        browser = Site(client)
        if logged_in and login:
            assert (await browser.log_in()).status_code == 303
        yield browser
    console.close()
