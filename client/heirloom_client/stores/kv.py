"""A store in a NATS bucket: for replicas on many hosts. The bucket holds what nobody without the key can read."""

from contextlib import AbstractAsyncContextManager

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from heirloom_client.errors import StoreError
from heirloom_client.record import Record
from heirloom_client.stores.store import Stored, decode, encode
from heirloom_client.stores.turn import InProcess, turn

KEY_BYTES = 32
HEADER = {"alg": "dir", "enc": "A256GCM"}
CONFLICTS = (10071, 10164)
"""The bucket holds a newer revision; or another write of the same key is under way."""
NO_MESSAGE = 10037


class KvStore:
    """Kept under `name` in the bucket of that name, encrypted with `key` (32 bytes; AES-256-GCM, RFC 7516).

    `jetstream` is of a connection of the application's own: the service's broker gives clients no JetStream. The bucket
    must exist. It belongs to the event loop of that connection.
    """

    def __init__(self, jetstream: JetStreamContext, bucket: str, *, key: bytes, name: str = "token") -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"key must be {KEY_BYTES} bytes, as secrets.token_bytes({KEY_BYTES}) makes them")
        self._jetstream = jetstream
        self._stream, self._subject = f"KV_{bucket}", f"$KV.{bucket}.{name}"
        self._key = OctKey.import_key(key)
        self._where = f"{name!r} in the NATS bucket {bucket!r}"
        self._turns = InProcess()

    async def read(self) -> Stored | None:
        """As `Store`; from the stream's leader, since a follower may lag behind."""
        try:
            message = await self._jetstream.get_last_msg(self._stream, self._subject)
        except NotFoundError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise self._fault("read", error) from None
        except NatsError as error:
            raise self._fault("read", error) from None
        if not message.data or message.seq is None:
            raise StoreError(f"{self._where} was deleted: purge it and log in again, or use another name")
        return Stored(decode(self._decrypted(message.data), self._where), message.seq)

    async def swap(self, record: Record, revision: int) -> bool:
        """As `Store`."""
        content = jwe.encrypt_compact(HEADER, encode(record), self._key, algorithms=list(HEADER.values()))
        try:
            await self._jetstream.publish(
                self._subject, content.encode(), headers={"Nats-Expected-Last-Subject-Sequence": str(revision)}
            )
        except APIError as error:
            if error.err_code in CONFLICTS:
                return False
            raise self._fault("written", error) from None
        except NatsError as error:
            raise self._fault("written", error) from None
        return True

    def turn(self) -> AbstractAsyncContextManager[None]:
        """As `Store`, among the tasks of this process."""
        return turn(self._turns.take, self._turns.give_back)

    def _decrypted(self, content: bytes) -> bytes:
        try:
            return jwe.decrypt_compact(content, self._key, algorithms=list(HEADER.values())).plaintext or b""
        except (JoseError, ValueError):
            raise StoreError(f"{self._where} is not encrypted with this key, or damaged: check the key") from None

    def _fault(self, what: str, error: Exception) -> StoreError:
        why = getattr(error, "description", None) or type(error).__name__
        return StoreError(f"{self._where} cannot be {what}: {why}. Check that the bucket exists and may be used")

    def __repr__(self) -> str:
        return f"KvStore({self._where})"
