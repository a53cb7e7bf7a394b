"""Datasette's hooks: the front page, cells and their links, permissions, and error pages."""

import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable, Generator, Iterable
from typing import Any
from urllib.parse import urlencode

from datasette.app import Datasette
from datasette.database import QueryInterrupted
from datasette.utils.asgi import Base400, Request, Response
from datasette.views.base import DatasetteError
from markupsafe import Markup
from pluggy import HookimplMarker

from heirloom.console.canned_queries import PARAMETERS
from heirloom.console.dashboard import dashboard
from heirloom.console.database import NAME
from projections.read_model import UnusableReadModel

log = logging.getLogger("heirloom.console")
hookimpl = HookimplMarker("datasette")

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})\d{3}Z")
_ALARMING = {"TokenReuseDetected", "ForgeryDetected", "FamilyRevoked", "TokenRevoked"}
_LEADS_TO = {"family_id": "family", "sub": "subject", "client_id": "client", "presented_by": "client"}
_WORDS = {"reason": "reason", "type": "event", "status": "status", "kind": "kind"}


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Any]]]:
    """The front page."""
    return [(r"^/$", dashboard)]


@hookimpl
def permission_allowed(action: str, resource: Any) -> bool | None:
    """Logged-in users may read the read model, and write SQL where that is switched on; nobody may do anything else."""
    if action in ("view-instance", "view-query"):
        return True
    if action in ("view-database", "view-table"):
        database = resource if action == "view-database" else resource[0]
        return bool(database == NAME)
    return None if action == "execute-sql" else False


@hookimpl
def render_cell(row: sqlite3.Row, value: Any, column: str) -> Markup | None:
    """Text that clients chose stays text, whatever it looks like; ids link to what is known of them."""
    if value is None or value == "":
        return None
    text = str(value)
    if column in _LEADS_TO:
        return link(_LEADS_TO[column], text, tenant=row["tenant"] if "tenant" in row.keys() else "")  # noqa: SIM118
    if column == "events":
        return Markup(" ").join(_event(event) for event in text.split(" "))
    if column in _WORDS:
        return (
            _event(text)
            if column == "type"
            else Markup('<span class="{} {}">{}</span>').format(_WORDS[column], _css_class(text), text)
        )
    if match := _TIME.fullmatch(text):
        return time(text, match)
    return Markup("{}").format(text)


def link(query: str, text: str, **parameters: str) -> Markup:
    """A link to a canned query about `text`."""
    name = {"family": "family_id", "subject": "sub", "client": "client_id"}[query]
    encoded = urlencode({name: text} | {key: value for key, value in parameters.items() if value})
    return Markup('<a href="/{}/{}?{}"><bdi>{}</bdi></a>').format(NAME, query, encoded, text)


def time(text: str, match: re.Match[str] | None = None) -> Markup:
    """RFC 3339, shown to the millisecond, and to the microsecond in its attribute."""
    match = match or _TIME.fullmatch(text)
    return Markup('<time datetime="{}">{}Z</time>').format(text, match[1] if match else text)


@hookimpl
def prepare_jinja2_environment(env: Any) -> None:
    """Add the functions that our templates use."""
    env.filters["event"] = _event
    env.filters["time"] = time
    env.globals["link"] = link
    env.globals["database_name"] = NAME


@hookimpl
def extra_template_vars(
    datasette: Datasette, request: Request | None, view_name: str
) -> Callable[[], Awaitable[dict[str, Any]]]:
    """The summary of a family, shown above the rows of a query about it."""

    async def variables() -> dict[str, Any]:
        known: dict[str, Any] = {"parameters": PARAMETERS, "family": None}
        if request is not None and view_name == "table" and (family_id := request.args.get("family_id")):
            sql = "SELECT * FROM readable_families WHERE family_id = ? AND ? IN ('', tenant)"
            found = await datasette.get_database(NAME).execute(sql, (family_id, request.args.get("tenant") or ""))
            known["family"] = found.first()
        return known

    return variables


@hookimpl(wrapper=True)
def handle_exception(
    datasette: Datasette, request: Request, exception: Exception
) -> Generator[None, Iterable[Any], list[Any]]:
    """An error page with one line. Datasette's own handler would print the exception with all its variables."""
    yield
    status, message = _explained(exception)

    async def respond() -> Response:
        if request.path.endswith(".json"):
            return Response.json({"ok": False, "error": message, "status": status}, status=status)
        page = datasette.jinja_env.get_template("error.html")
        return Response.html(await page.render_async(status=status, message=message), status=status)

    return [respond]


def _explained(exception: Exception) -> tuple[int, str]:
    match exception:
        case UnusableReadModel():
            return 503, (
                f"{exception}. If the service is building a new read model now, this page works again in a moment; "
                "otherwise start `heirloom up`, which builds it from the log."
            )
        case QueryInterrupted() | DatasetteError(message_is_html=True):
            return 400, "That takes too long: a query has one second. Narrow it by a client, a person or a time."
        case DatasetteError():  # Datasette uses 500 also for a wrong query
            return 400 if exception.status == 500 else exception.status, str(exception.message)
        case Base400():
            return exception.status, str(exception.args[0]) if exception.args else "There is no such page."
        case sqlite3.DatabaseError():
            return 503, f"The read model does not answer: {exception}. `heirloom up` checks it and builds it anew."
        case ValueError():
            return 400, "One of the parameters is not what it should be."
        case _:
            log.error("a page failed", exc_info=exception)
            return 500, f"The console failed: {type(exception).__name__}. What it printed says more."


def _event(name: str) -> Markup:
    alarming = " alarming" if name in _ALARMING else ""
    return Markup('<span class="event{}">{}</span>').format(alarming, name)


def _css_class(text: str) -> str:
    return re.sub(r"[^a-z_]", "-", text.lower())
