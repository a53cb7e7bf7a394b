"""What a canned query was asked, understood before it is answered: a slip of the pen must not read as an all-clear.

`since` may be written as on the command line, in UTC; a redirect shows which time that is. A tenant or reason that does
not exist is an error.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import get_args
from urllib.parse import parse_qsl, urlencode

from datasette.app import Datasette
from datasette.utils.asgi import Base400

from events.aggregates.family_events import RevocationReason
from heirloom.console.canned_queries import QUERIES
from heirloom.console.database import NAME
from heirloom.time_text import NoTime, parse_time

_SUFFIXES = ".json", ".csv"
_TENANT = "SELECT count(*) FROM readable_tenants WHERE tenant = ?"


class NotUnderstood(Base400):  # type: ignore[misc]  # Datasette ships no types
    """A parameter means nothing; the message says which, and what would do."""


async def understood(datasette: Datasette, path: str, query_string: str, now: datetime) -> str | None:
    """The query string to ask instead, or None where this one can be answered. Raises `NotUnderstood`."""
    if not _is_canned(path):
        return None
    fields = parse_qsl(query_string, keep_blank_values=True)
    given = {name: value for name, value in fields if value}
    _check_reason(given)
    if (tenant := given.get("tenant")) is not None:
        found = await datasette.get_database(NAME).execute(_TENANT, (tenant,))
        if found.first()[0] == 0:
            raise NotUnderstood("There is no tenant of that name here.")
    if (since := _since(given, now)) is None or since == given["since"]:
        return None
    return urlencode([(name, since if name == "since" else value) for name, value in fields])


def _is_canned(path: str) -> bool:
    name = path.removeprefix(f"/{NAME}/")
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name in QUERIES


def _check_reason(given: Mapping[str, str]) -> None:
    known = get_args(RevocationReason)
    if given.get("reason", known[0]) not in known:
        raise NotUnderstood(f"There is no such reason. These are all: {', '.join(known)}.")


def _since(given: Mapping[str, str], now: datetime) -> str | None:
    if "since" not in given:
        return None
    try:
        since = parse_time(given["since"], now, UTC)
    except NoTime as error:
        raise NotUnderstood(f"Since: {error}.") from error
    if since > now:
        raise NotUnderstood(f"Since: {since:%Y-%m-%dT%H:%M:%SZ} is still to come.")
    return since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
