"""A cell of a CSV file: for spreadsheets, which take some text for a formula and run it."""

from datetime import datetime
from typing import Any

import msgspec

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # full width
"""How a cell must not begin (OWASP, CSV injection)."""


def cell(value: Any) -> Any:
    """Words with spaces between, times as RFC 3339, anything deeper as JSON; an apostrophe before a formula.

    A record is one line: line breaks within it are written as `\\n` and `\\r`.
    """
    if isinstance(value, datetime):
        return msgspec.to_builtins(value)
    if isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        value = " ".join(value)
    elif isinstance(value, list | tuple | dict | msgspec.Struct):
        value = msgspec.json.encode(value).decode()
    if not isinstance(value, str):
        return value
    guarded = f"'{value}" if value.startswith(FORMULA) else value
    return guarded.replace("\n", "\\n").replace("\r", "\\r")
