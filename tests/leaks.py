"""What must be written nowhere: looked for by its value, and by what every token looks like."""

import re
from collections.abc import Iterable
from pathlib import Path

TOKEN = re.compile(rb"h(?:rt|ac|dc|at)_[0-9A-Za-z]{40,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{20,}")
"""Every credential of this service, and every JWT with its signature."""
FOR_SECRETS = ("keyring.json", "bus.json", "nats*.conf", "notary.key")
"""Where secrets are meant to be: files that only their owner can read."""


def files(directory: Path) -> list[Path]:
    """All that was written there and is not meant for secrets."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return [path for path in found if not any(path.match(pattern) for pattern in FOR_SECRETS)]


def tokens(paths: Iterable[Path]) -> list[str]:
    """Where there is something that looks like a token. Says which kind, never the token."""
    return [f"{path.name}: {match[:4].decode()}…" for path in paths for match in TOKEN.findall(path.read_bytes())]


def values(paths: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """Where there is one of these secrets. Never says which."""
    sought = [secret.encode() for secret in secrets]
    return [path.name for path in paths if sought and any(secret in path.read_bytes() for secret in sought)]
