"""The embedded broker's credentials: made at the first start, mode 0600, shown only by `heirloom url` (CONTRACT §7)."""

import base64
import os
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec
import nkeys

from events.files import replace, write_private
from heirloom.roles import ROLES
from service.client_password import client_password
from service.keyring import KeyringError

FILE = "bus.json"


class Credentials(msgspec.Struct, frozen=True):
    """`passwords` of the service and of each role; what makes the clients' passwords; what signs user JWTs."""

    passwords: dict[str, str]
    client_key: str
    issuer_seed: str

    @property
    def issuer(self) -> str:
        """The public nkey the broker trusts."""
        public: bytes = nkeys.from_seed(self.issuer_seed.encode()).public_key
        return public.decode()

    def url(self, user: str, host: str) -> str:
        """A NATS URL for the service or a role; `host` with port, or several with commas between."""
        return _urls(f"{user}:{self.passwords[user]}", host)

    def client_url(self, tenant: str, client_id: str, host: str, void_until: datetime | None = None) -> str:
        """A NATS URL for a client; `host` as above, `void_until` as of `client_password`."""
        password = client_password(base64.b64decode(self.client_key), tenant, client_id, void_until)
        # nothing here needs percent-encoding, which NATS clients do not agree on
        return _urls(f"{tenant}.{client_id}:{password}", host)


def _urls(who: str, hosts: str) -> str:
    return ",".join(f"nats://{who}@{host}" for host in hosts.split(","))


def ensure(data: Path) -> Credentials:
    """The credentials of this data directory, made where there are none yet. Raises `KeyringError`."""
    path = data / FILE
    if not path.exists():
        seed: bytes = nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_ACCOUNT)
        made = Credentials(
            passwords=_passwords(ROLES),
            client_key=base64.b64encode(secrets.token_bytes(32)).decode(),
            issuer_seed=seed.decode(),
        )
        write_private(path, msgspec.json.format(msgspec.json.encode(made)))
    known = load(data)
    missing = [role for role in ROLES if role not in known.passwords]
    if missing:
        known = msgspec.structs.replace(known, passwords=known.passwords | _passwords(missing))
        replace(path, msgspec.json.format(msgspec.json.encode(known)))
    return known


def _passwords(roles: Iterable[str]) -> dict[str, str]:
    return {role: secrets.token_urlsafe(24) for role in roles}


def of_environment() -> Credentials | None:
    """Those of the directory that HEIRLOOM_DATA names; None where it is unset. Raises `KeyringError`."""
    data = os.environ.get("HEIRLOOM_DATA")
    return load(Path(data)) if data else None


def load(data: Path) -> Credentials:
    """The credentials of this data directory. Raises `KeyringError`."""
    path = data / FILE
    try:
        return decode(path.read_bytes(), path)
    except OSError as error:
        raise KeyringError(f"cannot read {path}: {error.strerror}") from error


def decode(content: bytes, path: Path) -> Credentials:
    """Credentials as they are written, read from `path`. Raises `KeyringError`."""
    try:
        return msgspec.json.decode(content, type=Credentials)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeyringError(f"{path} is corrupt; delete it and hand out new URLs, or restore it") from error
