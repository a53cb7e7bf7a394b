"""The embedded broker's credentials: made at the first start, mode 0600, shown only by `heirloom url` (contract §7)."""

import base64
import binascii
import os
import re
import secrets
from datetime import datetime
from pathlib import Path

import msgspec
import nkeys

from events.files import create_private, exposed, replace
from heirloom.broker.roles import OWN, ROLES
from heirloom.data_directory import CREDENTIALS, DataDirectory
from service.keys.derived_password import client_password
from service.keys.keyring import KeyringError

CLIENT_KEY_BYTES = 32
PASSWORD_BYTES = 24
PASSWORD = re.compile(r"[A-Za-z0-9_-]{32}")
"""`PASSWORD_BYTES`, as `secrets.token_urlsafe` writes them: no character ends a string in a configuration or URL."""
OTHERWISE = "delete it and hand out new URLs, or restore it"


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key of the clients' passwords, the seed that signs user JWTs, and each role's secret.

    `passwords` belong to the roles that `heirloom url` shows. `seeds` are nkeys, by which our own processes and
    commands authenticate as any role without revealing a secret, even to an impostor of the broker.
    """

    passwords: dict[str, str]
    client_key: str
    issuer_seed: str
    seeds: dict[str, str] = {}

    @property
    def issuer(self) -> str:
        """The public nkey whose user JWTs the broker accepts."""
        return _public(self.issuer_seed)

    def url(self, user: str, host: str) -> str:
        """A NATS URL for a role of `passwords`; `host` with port, or several, separated by commas."""
        return _urls(f"{user}:{self.passwords[user]}", host)

    def seed(self, role: str) -> str:
        """The seed of a role's nkey. Raises `KeyringError`."""
        try:
            return self.seeds[role]
        except KeyError:
            raise KeyringError(
                f"{CREDENTIALS} is of an earlier version, without a key for {role}: start `heirloom up` once more, or"
                " `heirloom broker-config` for a broker of your own"
            ) from None

    def nkey(self, role: str) -> str:
        """The role's public nkey, by which the broker authenticates it. Raises `KeyringError`."""
        return _public(self.seed(role))

    def client_url(self, tenant: str, client_id: str, host: str, void_until: datetime | None = None) -> str:
        """A NATS URL for a client; `host` as in `url`, `void_until` as in `client_password`."""
        password = client_password(base64.b64decode(self.client_key), tenant, client_id, void_until)
        # nothing here needs percent-encoding, which NATS clients do not agree on
        return _urls(f"{tenant}.{client_id}:{password}", host)


def _urls(who: str, hosts: str) -> str:
    return ",".join(f"nats://{who}@{host}" for host in hosts.split(","))


def ensure(data: Path) -> Credentials:
    """The credentials of this data directory, made if they do not exist yet. Raises `KeyringError`."""
    path = DataDirectory(data).credentials
    if not path.exists():
        client_key = base64.b64encode(secrets.token_bytes(CLIENT_KEY_BYTES)).decode()
        made = _complete(Credentials({}, client_key, _seed(nkeys.PREFIX_BYTE_ACCOUNT)))
        create_private(path, msgspec.json.format(msgspec.json.encode(made)))
    known = load(data)
    if (complete := _complete(known)) != known:
        replace(path, msgspec.json.format(msgspec.json.encode(complete)))
    return complete


def _complete(known: Credentials) -> Credentials:
    """Add the secrets of new roles, and drop the passwords that our own processes once had."""
    made = {role: secrets.token_urlsafe(PASSWORD_BYTES) for role in ROLES if role not in OWN}
    passwords = made | {role: password for role, password in known.passwords.items() if role not in OWN}
    seeds = {role: _seed(nkeys.PREFIX_BYTE_USER) for role in ROLES if role not in known.seeds} | known.seeds
    return msgspec.structs.replace(known, passwords=passwords, seeds=seeds)


def _seed(kind: int) -> str:
    made: bytes = nkeys.encode_seed(secrets.token_bytes(32), kind)
    return made.decode()


def _public(seed: str) -> str:
    public: bytes = nkeys.from_seed(seed.encode()).public_key
    return public.decode()


def of_environment() -> Credentials | None:
    """The credentials of the directory in HEIRLOOM_DATA; None where it is unset. Raises `KeyringError`."""
    data = os.environ.get("HEIRLOOM_DATA")
    return load(Path(data)) if data else None


def load(data: Path) -> Credentials:
    """The credentials of this data directory. Raises `KeyringError`."""
    path = DataDirectory(data).credentials
    try:
        if (reason := exposed(path, "the file of credentials")) is not None:
            raise KeyringError(reason)
        return decode(path.read_bytes(), path)
    except OSError as error:
        raise KeyringError(f"cannot read {path}: {error.strerror}") from error


def decode(content: bytes, path: Path) -> Credentials:
    """The credentials in `content`, which may come from a stranger's backup at `path`. Raises `KeyringError`."""
    try:
        known = msgspec.json.decode(content, type=Credentials)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeyringError(f"{path} is corrupt; {OTHERWISE}") from error
    if (fault := _fault(known)) is not None:
        raise KeyringError(f"{path} is not as it is made here: {fault}; {OTHERWISE}")
    return known


def _fault(known: Credentials) -> str | None:
    """What `ensure` would not have made, without its value; the broker's configuration is made from the rest.

    An unknown role is no fault, and is not used: an older build may have had it.
    """
    if not all(PASSWORD.fullmatch(password) for password in known.passwords.values()):
        return "a password is none that was made here"
    if not _is_seed(known.issuer_seed, nkeys.PREFIX_BYTE_ACCOUNT):
        return "what signs user JWTs is no seed of an account"
    if not all(_is_seed(seed, nkeys.PREFIX_BYTE_USER) for seed in known.seeds.values()):
        return "a role's seed is no seed of a user"
    if len(set(known.seeds.values())) < len(known.seeds):
        return "two roles have one seed"
    return None if _is_client_key(known.client_key) else f"the clients' key is not {CLIENT_KEY_BYTES} bytes"


def _is_seed(seed: str, kind: int) -> bool:
    """Whether the text is exactly an nkey's seed; the library does not check the checksum at its end."""
    try:
        _, raw = nkeys.decode_seed(seed.encode())
        return bool(nkeys.encode_seed(raw, kind) == seed.encode())
    except (nkeys.NkeysError, IndexError):
        return False


def _is_client_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == CLIENT_KEY_BYTES
    except (binascii.Error, ValueError):
        return False
