"""Replicas know each other's messages by a MAC: nobody else on the bus has the keyring that its key is derived from.

What one replica publishes, the others take for true. But whoever may name a reply subject in the log's account, as our
own notary may, can have the broker publish there whatever the log holds.
"""

import hashlib
import hmac

from service.keys.keyring import Keyring

TAG_BYTES = 32


class Seal:
    """One key for all replicas. Those whose keyrings begin with different secrets do not understand each other."""

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.derive(keyring.first, "replicas")

    def close(self, subject: str, body: bytes) -> bytes:
        """What is published on `subject` to tell the other replicas `body`."""
        return self._tag(subject.encode(), body) + body

    def open(self, subject: bytes, sealed: bytes) -> bytes | None:
        """The body, if a replica has published it on that subject."""
        tag, body = sealed[:TAG_BYTES], sealed[TAG_BYTES:]
        return body if hmac.compare_digest(tag, self._tag(subject, body)) else None

    def _tag(self, subject: bytes, body: bytes) -> bytes:
        return hmac.digest(self._key, subject + b" " + body, hashlib.sha256)  # no subject has a space in it
