"""Secrets that must not be written anywhere, found by their value or by the form of a token."""

import re
from collections.abc import Iterable
from pathlib import Path

TOKEN = re.compile(rb"h(?:rt|ac|dc|at)_[0-9A-Za-z]{40,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}")
"""Every credential of this service, and every signed JWT."""
FOR_SECRETS = ("keyring.json", "bus.json", "nats*.conf", "notary.key")
"""Private files that are meant for secrets."""


def files(directory: Path) -> list[Path]:
    """All files in the directory, without those for secrets."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return [path for path in found if not any(path.match(pattern) for pattern in FOR_SECRETS)]


def tokens(paths: Iterable[Path]) -> list[str]:
    """Files with something like a token, and its kind, never the token itself."""
    return [f"{path.name}: {match[:4].decode()}…" for path in paths for match in TOKEN.findall(path.read_bytes())]


def values(paths: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """Files with one of these secrets, never the secret itself."""
    sought = [secret.encode() for secret in secrets]
    return [path.name for path in paths if sought and any(secret in path.read_bytes() for secret in sought)]
