"""The options of a console, and the check that they do not expose it to more people than intended."""

import ipaddress
import secrets
from pathlib import Path
from typing import NamedTuple

from heirloom.broker.tls import is_loopback

MIN_TOKEN = 22
"""Characters of base64: 128 bits."""


class CannotServe(Exception):
    """One line for a person: the obstacle, and what to do."""


class ConsoleOptions(NamedTuple):
    """`names` are further host names that browsers may use; `sql` allows logged-in users to write queries."""

    read_model: Path
    host: str = "127.0.0.1"
    port: int = 8001
    login: bool = True
    tenant: str | None = None
    sql: bool = False
    names: tuple[str, ...] = ()
    cert: Path | None = None
    key: Path | None = None


def check(options: ConsoleOptions) -> None:
    """Raises `CannotServe` for options that would expose the console to more people than intended."""
    loopback = is_loopback(options.host)
    tls = options.cert is not None
    if (options.cert is None) != (options.key is None):
        raise CannotServe("a certificate needs its key: give both --tls-cert and --tls-key")
    if not options.login and not loopback:
        raise CannotServe(f"{options.host} can be reached by others: --no-login is for a loopback address alone")
    if not options.login and options.names:
        raise CannotServe("--name lets others in through a proxy: --no-login does not go with it")
    if not loopback and not tls:
        raise CannotServe(
            f"{options.host} can be reached by others: give --tls-cert and --tls-key, or serve on 127.0.0.1 behind a "
            "proxy that speaks TLS (with --name its name)"
        )
    if is_wildcard(options.host) and not options.names:
        raise CannotServe(f"name with --name what people type to reach {options.host}, as in --name console.example")
    if options.sql and not options.login:
        raise CannotServe("--sql needs the login")
    if options.sql and options.tenant is not None:
        raise CannotServe("--sql could ask for every tenant's rows: leave out --sql or --tenant")


def new_token() -> str:
    """A new login token of 256 bits."""
    return secrets.token_urlsafe(32)


def read_token(path: Path) -> str:
    """The login token in a file. Raises `CannotServe` where others could guess or read it."""
    try:
        token, mode = path.read_text().strip(), path.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        raise CannotServe(f"cannot read the login token in {path}: {type(error).__name__}") from error
    if mode & 0o077:
        raise CannotServe(f"{path} can be read by others: chmod 600 {path}")
    if len(token) < MIN_TOKEN:
        raise CannotServe(f"the login token in {path} is short enough to be guessed: openssl rand -hex 32 > {path}")
    return token


def is_wildcard(host: str) -> bool:
    """Whether the host stands for every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
