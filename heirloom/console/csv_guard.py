"""Guards the console's CSV as the export's: Datasette writes each row unchanged, in a chunk of its own."""

import csv
import io
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from heirloom.export.csv_cell import cell

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def guarded_rows(body: bytes) -> bytes:
    """The rows of CSV, with no cell that a spreadsheet treats as a formula; a number stays a number."""
    rows = csv.reader(io.StringIO(body.decode(), newline=""))
    guarded = io.StringIO(newline="")
    csv.writer(guarded).writerows([text if _NUMBER.fullmatch(text) else cell(text) for text in row] for row in rows)
    return guarded.getvalue().encode()


def guarding(send: Send) -> Send:
    """A `send` that guards CSV, which Datasette streams as plain text, and passes everything else on."""
    is_text = False

    async def guarded(message: Message) -> None:
        nonlocal is_text
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message["headers"]}
            is_text = headers.get(b"content-type", b"").startswith(b"text/plain")
        elif is_text and message.get("more_body") and message.get("body"):
            message = {**message, "body": guarded_rows(message["body"])}
        await send(message)

    return guarded
