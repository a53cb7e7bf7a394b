"""The password that `heirloom url` gives a client: computed, so that it is stored nowhere."""

import base64
import hashlib
import hmac


def client_password(client_key: bytes, tenant: str, client_id: str) -> str:
    """Of `<tenant>.<client_id>`, under the key in the data directory."""
    mac = hmac.digest(client_key, f"{tenant}/{client_id}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
