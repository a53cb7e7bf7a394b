"""Seed files, as `heirloom up --seed` and `heirloom apply` read them: `seed(tenant("acme"), client("web"))`."""

import json
from typing import Any


def seed(*tables: str) -> str:
    """A file of these tables."""
    return "\n".join(tables)


def tenant(name: str, **settings: Any) -> str:
    """A tenant's table."""
    return _table("tenant", {"name": name} | settings)


def client(client_id: str, tenant: str = "acme", **settings: Any) -> str:
    """A client's table."""
    return _table("client", {"tenant": tenant, "client_id": client_id} | settings)


def _table(kind: str, settings: dict[str, Any]) -> str:
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    return f"[[{kind}]]\n{''.join(lines)}"
