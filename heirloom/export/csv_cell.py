"""A cell of a CSV file, guarded against spreadsheets, which run some texts as formulas."""

from datetime import datetime
from typing import Any

import msgspec

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  # full width
"""Beginnings that make a spreadsheet treat a cell as a formula (OWASP, CSV injection)."""


def cell(value: Any) -> Any:
    r"""The value as a cell: words separated by spaces, times in RFC 3339, other structures in JSON; no formula.

    An apostrophe before the text disarms a formula. A record is one line: its line breaks are written as `\n` and `\r`.
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
