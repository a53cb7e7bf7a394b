"""The gate before Datasette: who may come in, by which host name and methods, and the security headers.

Everything but the login page and the style sheet requires a session. A path that is not listed here does not exist,
Datasette's own introspection pages included.
"""

import asyncio
import importlib.resources
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from datasette.utils.asgi import Request, Response

from heirloom.console.csv_guard import guarding
from heirloom.console.database import NAME
from heirloom.console.login import SESSION_SECONDS, SLOW_SECONDS, Login, TooManyGuesses

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Render = Callable[..., Awaitable[str]]

COOKIE = "heirloom_console"
MAX_FORM = 4096
STATIC = {"console.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}
"""Files that need no session: name → content type."""

SECURITY_HEADERS = {
    # no script at all, nothing from elsewhere, and no other page may embed ours
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_HSTS = "max-age=31536000"


class AccessGate:
    """An ASGI app that passes requests to `app` that have a session of `login` (if any) and one of the host `names`.

    `render(template, **context)` makes a page; `tls`: browsers connect by https.
    """

    def __init__(self, app: App, login: Login | None, names: frozenset[str], render: Render, *, tls: bool) -> None:
        self._app = app
        self._login = login
        self._names = names
        self._render = render
        self._tls = tls
        self._cookie = f"__Host-{COOKIE}" if tls else COOKIE
        files = importlib.resources.files("heirloom.console") / "static"
        self._static = {f"/static/{name}": ((files / name).read_text(), kind) for name, kind in STATIC.items()}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return  # neither websockets nor a lifespan
        request = Request(scope, receive)
        guarded = self._guarded(send)
        response = await self._answer(request)
        if response is not None:
            await response.asgi_send(guarded)
        else:
            await self._app({**scope, "actor": {"id": "security"}}, receive, guarding(guarded))

    async def _answer(self, request: Request) -> Response | None:
        """The gate's own response; None where Datasette answers."""
        path = request.scope.get("raw_path", b"").decode("ascii", "replace").partition("?")[0] or request.path
        if _host(request.headers.get("host", "")) not in self._names:
            return Response.text("This console has another name; see heirloom console --name.\n", status=421)
        if request.method == "POST" and path in ("/login", "/logout"):
            if not self._from_here(request):
                return Response.text("That form was not ours.\n", status=403)
            return await (self._log_in(request) if path == "/login" else self._log_out(request))
        if request.method not in ("GET", "HEAD"):
            return Response.text("The console only reads.\n", status=405, headers={"allow": "GET, HEAD"})
        if path in self._static:
            text, kind = self._static[path]
            return Response(text, content_type=kind)
        if path == "/login":
            return await self._login_page(200, _here(request.args.get("next")))
        if not self._is_in(request):
            return self._refuse(request, path)
        if path == "/" or path == f"/{NAME}" or path.startswith((f"/{NAME}/", f"/{NAME}.")):
            return None
        page = await self._render("error.html", status=404, message="There is no such page.")
        return Response.html(page, status=404)

    def _is_in(self, request: Request) -> bool:
        return self._login is None or self._login.knows(request.cookies.get(self._cookie, ""))

    def _refuse(self, request: Request, path: str) -> Response:
        """Redirect a browser to the login; refuse a program."""
        if "text/html" not in request.headers.get("accept", "") or path.endswith((".json", ".csv", ".blob")):
            return Response.text("Log in first.\n", status=401)
        query = f"?{request.query_string}" if request.query_string else ""
        return Response.redirect("/login?" + urlencode({"next": path + query}), status=303)

    async def _log_in(self, request: Request) -> Response:
        form = await _form(request)
        onward = _here(form.get("next"))
        if self._login is None:
            return Response.redirect(onward, status=303)
        address = (request.scope.get("client") or ("", 0))[0]
        try:
            cookie = self._login.open(form.get("token", ""), address)
        except TooManyGuesses as wait:
            await asyncio.sleep(SLOW_SECONDS)
            headers = {"retry-after": str(wait.seconds)}
            return await self._login_page(429, onward, f"{str(wait).capitalize()}.", headers)
        if cookie is None:
            return await self._login_page(401, onward, "That is not the token.")
        response = Response.redirect(onward, status=303)
        self._set_cookie(response, cookie, SESSION_SECONDS)
        return response

    async def _log_out(self, request: Request) -> Response:
        if self._login is not None:
            self._login.close(request.cookies.get(self._cookie, ""))
        response = Response.redirect("/login", status=303)
        self._set_cookie(response, "", 0)
        return response

    async def _login_page(
        self, status: int, onward: str, error: str = "", headers: dict[str, str] | None = None
    ) -> Response:
        return Response.html(await self._render("login.html", next=onward, error=error), status, headers)

    def _set_cookie(self, response: Response, value: str, seconds: int) -> None:
        response.set_cookie(self._cookie, value, max_age=seconds, httponly=True, samesite="strict", secure=self._tls)

    def _from_here(self, request: Request) -> bool:
        """Whether the browser says that a page of ours sent the form; a client that says nothing is no browser."""
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        ours = origin is None or _host(origin.partition("://")[2]) in self._names
        return ours and site in (None, "same-origin", "none")

    def _guarded(self, send: Send) -> Send:
        """A `send` that adds the security headers, in place of any set before."""
        ours = SECURITY_HEADERS | ({"strict-transport-security": _HSTS} if self._tls else {})
        added = [(name.encode(), value.encode()) for name, value in ours.items()]

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name.decode().lower() not in ours]
                message = {**message, "headers": kept + added}
            await send(message)

        return guarded


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; none where it is too large."""
    body = b""
    while len(body) <= MAX_FORM:
        message = await request.receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=10)
            return {name: values[-1] for name, values in fields.items()}
    return {}


def _host(header: str) -> str:
    """The host name without the port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _here(onward: str | None) -> str:
    """A path of the console, whatever was requested: a login never leads elsewhere."""
    if onward and (onward == "/" or onward.startswith((f"/{NAME}/", f"/{NAME}?"))) and onward.isprintable():
        return onward
    return "/"
