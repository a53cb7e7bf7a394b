"""The password that `heirloom url` prints for a client. It is computed, so it is stored nowhere."""

import hashlib
import hmac
from datetime import datetime

from events import base64url


def client_password(client_key: bytes, tenant: str, client_id: str, void_until: datetime | None = None) -> str:
    """The password of the NATS user `<tenant>.<client_id>`: an HMAC-SHA-256 under the data directory's `client_key`.

    `void_until` is the client's (`events.aggregates.client`), so disabling and enabling a client changes its password.
    """
    since = "" if void_until is None else f"/{void_until.isoformat()}"
    mac = hmac.digest(client_key, f"{tenant}/{client_id}{since}".encode(), hashlib.sha256)
    return base64url.encode(mac).decode()
