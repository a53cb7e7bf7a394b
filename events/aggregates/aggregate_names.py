"""The log's stream, the subjects of its aggregates (CONTRACT §6), and the stream of checkpoints."""

import hashlib
import re
from typing import NamedTuple

import msgspec

STREAM = "TOKENS"
EVERYTHING = "tokens.*.>"
CHECKPOINTS = "CHECKPOINTS"
"""The stream of the notary's checkpoints, which is not part of the log that they sign."""
CHECKPOINT = "tokens.checkpoint"
NO_TENANT = "_"
"""In the place of a tenant's name, what is of no tenant; no tenant can have that name."""
BOOK = f"tokens.{NO_TENANT}.book"
"""The subject of the commits about the log's own books."""
REGISTRY = ("tokens.*.tenant", "tokens.*.client.*", "tokens.*.key.*", "tokens.*.subject.*", "tokens.*.role.*", BOOK)
"""The subjects that every replica keeps in memory: settings, clients, signing keys, cut-offs, named roles, books."""
SETTINGS = ("tokens.*.tenant", "tokens.*.client.*", "tokens.*.key.*", BOOK)
"""Those of them on which replicas decide without reading the log."""
CUT_OFFS = ("tokens.*.tenant", "tokens.*.client.*", "tokens.*.subject.*")
"""The subjects on which a commit may end families."""

TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ROLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FAMILY_ID = re.compile(r"[A-Za-z0-9]{1,64}")


ILLEGIBLE = "the subject may hold visible ASCII characters alone"
"""The error text for a request's subject that is not `is_legible`."""


def is_legible(subject: str) -> bool:
    """Whether a subject has visible ASCII only: the broker accepts any byte but LF, space and tab."""
    return subject.isascii() and subject.isprintable()


class AggregateName(msgspec.Struct, frozen=True, gc=False):
    """The names in the subject of a commit: `kind` is a key of `KINDS`, `id` the aggregate's id within its tenant.

    The `id` of a tenant's own aggregate is the tenant's name.
    """

    tenant: str
    kind: str
    id: str

    @classmethod
    def parse(cls, subject: str) -> "AggregateName":
        """Read the names in a commit's subject. Raises `IndexError` if they are missing.

        Nothing else is checked here; `events.log.grammar.kind_of` checks which subjects a commit may have.
        """
        parts = subject.split(".", 4)
        return cls(parts[1], parts[2], parts[3] if len(parts) > 3 else parts[1])


class Aggregate(NamedTuple):
    """One consistency boundary. `filter` matches all subjects that its commits may have."""

    filter: str
    live: str
    revoked: str
    """The subject of revoking commits; equal to `live` for kinds that have none."""

    @property
    def name(self) -> str:
        """The name in its first commit, so that no other aggregate's history can be shown in its place."""
        return self.filter.removesuffix(".*")


def family(tenant: str, family_id: str) -> Aggregate:
    """A token family. Its commits have two subjects, so that `…revoked` alone is the revocation feed."""
    base = f"tokens.{tenant}.family.{family_id}"
    return Aggregate(f"{base}.*", f"{base}.live", f"{base}.revoked")


def tenant(name: str) -> Aggregate:
    """A tenant's settings."""
    return single(f"tokens.{name}.tenant")


def client(tenant: str, client_id: str) -> Aggregate:
    """A client's registration, and whether the client is disabled."""
    return single(f"tokens.{tenant}.client.{client_id}")


def key(tenant: str, kid: str) -> Aggregate:
    """One key, for signatures or MACs."""
    return single(f"tokens.{tenant}.key.{kid}")


def role(tenant: str, name: str) -> Aggregate:
    """Named credentials of a role."""
    return single(f"tokens.{tenant}.role.{name}")


def subject(tenant: str, sub: str) -> Aggregate:
    """The cut-offs of one person. The NATS subject has a digest, because a `sub` may contain any character."""
    return single(f"tokens.{tenant}.subject.{subject_digest(sub)}")


def book() -> Aggregate:
    """The books of the log."""
    return single(BOOK)


def subject_digest(sub: str) -> str:
    """The first 32 hexadecimal characters of the SHA-256 of the `sub`."""
    return hashlib.sha256(sub.encode()).hexdigest()[:32]


def single(name: str) -> Aggregate:
    """An aggregate whose commits have one subject."""
    return Aggregate(name, name, name)


EVERY_TENANT = single("tokens.*.tenant")
"""The settings of all tenants: the guard of an append that was decided by comparing all of them."""
