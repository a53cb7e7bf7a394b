"""What the operations of the administration reply (CONTRACT §5). `seq` is the commit's, as everywhere."""

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from events.aggregates.role import RoleKind


class Changed(msgspec.Struct, frozen=True):
    """The command is effective on every replica."""

    seq: int


class Put(Changed, frozen=True):
    """Settings; `changed` is false where all was so already."""

    changed: bool


class ClientPut(Put, frozen=True, omit_defaults=True):
    """A client's settings, and its secret where one was made: it is shown this once."""

    client_secret: str | UnsetType = UNSET


class CutOff(Changed, frozen=True):
    """Families that were ended."""

    revoked_families: int


class KeyRotated(Changed, frozen=True):
    """The key that every replica uses from now on."""

    kid: str


class BookOpened(msgspec.Struct, frozen=True):
    """The book of the log that is open now: its number, and its first sequence."""

    book: int
    seq: int


class RoleAdded(Changed, frozen=True):
    """Credentials of a role; the secret is shown this once."""

    user: str
    secret: str
    inbox_prefix: str


class Role(msgspec.Struct, frozen=True):
    """A role's name, and the sequence since which it has its status."""

    name: str
    role: RoleKind
    status: Literal["live", "revoked"]
    seq: int


class Roles(msgspec.Struct, frozen=True):
    """The names of a tenant."""

    items: tuple[Role, ...]
