"""The password that `heirloom url` gives a client: computed, so that it is stored nowhere."""

import hashlib
import hmac
from datetime import datetime

from events import base64url


def client_password(client_key: bytes, tenant: str, client_id: str, void_until: datetime | None = None) -> str:
    """Of `<tenant>.<client_id>`, under the key in the data directory.

    `void_until` is the client's (`events.aggregates.client`): each disabling and enabling makes another password.
    """
    since = "" if void_until is None else f"/{void_until.isoformat()}"
    mac = hmac.digest(client_key, f"{tenant}/{client_id}{since}".encode(), hashlib.sha256)
    return base64url.encode(mac).decode()
