"""Text in nats-server's configuration."""

import os


def quoted(text: str | os.PathLike[str]) -> str:
    """A string that nats-server reads as this text, whatever it holds: it begins no other setting.

    Quotes, backslashes and all that is not visible ASCII are written as bytes (`\\x22`); so is a file's name that is no
    text.
    """
    return '"' + "".join(_written(byte) for byte in os.fsencode(text)) + '"'


def _written(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}"
