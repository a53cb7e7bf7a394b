"""Replicas authenticate each other's messages with a MAC, whose key is derived from the keyring.

A replica trusts what another one publishes, and a subject alone does not prove the sender: a connection that may name a
reply subject in the log's account, as our own notary's, can make the broker publish any message of the log there.
"""

import hashlib
import hmac

from service.keys.keyring import Keyring

TAG_BYTES = 32


class Seal:
    """One key for all replicas. Replicas whose keyrings have different first secrets reject each other's messages."""

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.derive(keyring.first, "replicas")

    def close(self, subject: str, body: bytes) -> bytes:
        """The message to publish on `subject`: the tag, then `body`."""
        return self._tag(subject.encode(), body) + body

    def open(self, subject: bytes, sealed: bytes) -> bytes | None:
        """The body of a message that a replica published on that subject; None for any other message."""
        tag, body = sealed[:TAG_BYTES], sealed[TAG_BYTES:]
        return body if hmac.compare_digest(tag, self._tag(subject, body)) else None

    def _tag(self, subject: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, subject + b" " + body, hashlib.sha256)  # no subject has a space in it
