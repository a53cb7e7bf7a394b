"""Quoted text in nats-server's configuration."""

import os


def quoted(text: str | os.PathLike[str]) -> str:
    r"""A string that nats-server reads as exactly this text: no text can begin another setting.

    Quotes, backslashes and everything but visible ASCII are written as bytes (`\x22`), also for a file name that is no
    valid text.
    """
    return '"' + "".join(_written(byte) for byte in os.fsencode(text)) + '"'


def _written(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}"
