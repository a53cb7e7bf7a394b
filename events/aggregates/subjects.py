"""The log's stream, the subjects of its aggregates (CONTRACT §6), and the stream of what vouches for it."""

import hashlib
import re
from typing import NamedTuple

import msgspec

STREAM = "TOKENS"
EVERYTHING = "tokens.*.>"
CHECKPOINTS = "CHECKPOINTS"
"""The stream of the notary's checkpoints: not a part of the log that they vouch for."""
CHECKPOINT = "tokens.checkpoint"
REGISTRY = ("tokens.*.tenant", "tokens.*.client.*", "tokens.*.key.*", "tokens.*.subject.*", "tokens.*.role.*")
"""What every replica holds in memory: settings, clients, signing keys, cut-offs, roles by name."""
SETTINGS = ("tokens.*.tenant", "tokens.*.client.*", "tokens.*.key.*")
"""The part of it that is decided on without asking the log."""
CUT_OFFS = ("tokens.*.tenant", "tokens.*.client.*", "tokens.*.subject.*")
"""Where a commit may end families."""

TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
ROLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FAMILY_ID = re.compile(r"[A-Za-z0-9]{1,64}")


ILLEGIBLE = "the subject may hold visible ASCII characters alone"
"""What is wrong with a request's subject that is not `is_legible`."""


def is_legible(subject: str) -> bool:
    """Whether names could be read out of it: the broker lets any byte but LF, space and tab into a subject."""
    return subject.isascii() and subject.isprintable()


class AggregateName(msgspec.Struct, frozen=True, gc=False):
    """What the subject of a commit names: `kind` is a key of `KINDS`, `id` the aggregate's among the tenant's.

    A tenant is the only one of its kind, so its `id` is its name.
    """

    tenant: str
    kind: str
    id: str

    @classmethod
    def parse(cls, subject: str) -> "AggregateName":
        """Take the names out of a commit's subject. Raises `IndexError` where they are missing.

        Which subjects a commit may have is for `events.log.grammar.kind_of` to check: nothing is checked here.
        """
        parts = subject.split(".", 4)
        return cls(parts[1], parts[2], parts[3] if len(parts) > 3 else parts[1])


class Aggregate(NamedTuple):
    """One consistency boundary: `filter` matches every subject its commits may have."""

    filter: str
    live: str
    revoked: str
    """Where a commit that revokes something goes; equal to `live` for aggregates that revoke nothing."""

    @property
    def name(self) -> str:
        """What its first commit calls it, so that no other history can be shown in its place."""
        return self.filter.removesuffix(".*")


def family(tenant: str, family_id: str) -> Aggregate:
    """The token family: its commits are split in two subjects, so that `…revoked` alone is the revocation feed."""
    base = f"tokens.{tenant}.family.{family_id}"
    return Aggregate(f"{base}.*", f"{base}.live", f"{base}.revoked")


def tenant(name: str) -> Aggregate:
    """A tenant's settings."""
    return _single(f"tokens.{name}.tenant")


def client(tenant: str, client_id: str) -> Aggregate:
    """A client's registration and whether it is disabled."""
    return _single(f"tokens.{tenant}.client.{client_id}")


def key(tenant: str, kid: str) -> Aggregate:
    """The life of one key, signing or MAC."""
    return _single(f"tokens.{tenant}.key.{kid}")


def role(tenant: str, name: str) -> Aggregate:
    """A role's credentials under a name of their own."""
    return _single(f"tokens.{tenant}.role.{name}")


def subject(tenant: str, sub: str) -> Aggregate:
    """The cut-offs of one person. The subject names a digest: a `sub` may hold anything, a NATS subject may not."""
    return _single(f"tokens.{tenant}.subject.{subject_digest(sub)}")


def subject_digest(sub: str) -> str:
    """32 hexadecimal characters of SHA-256 over the `sub`."""
    return hashlib.sha256(sub.encode()).hexdigest()[:32]


def _single(name: str) -> Aggregate:
    return Aggregate(name, name, name)


EVERY_TENANT = _single("tokens.*.tenant")
"""All tenants' settings together: what must not have moved while something is compared over all of them."""
