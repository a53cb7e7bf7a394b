"""What a store is, and how its content is written."""

from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import msgspec

from heirloom_client.errors import StoreError
from heirloom_client.record import VERSION, Record


class Stored(NamedTuple):
    """A record, and the revision under which the store has it."""

    record: Record
    revision: int


class Store(Protocol):
    """Keeps one record. Write another one by these three."""

    async def read(self) -> Stored | None:
        """The newest record, never an older one; None where there is none yet. Raises `StoreError`."""

    async def swap(self, record: Record, revision: int) -> bool:
        """Write the record if `revision` is still the newest (0: if there is none); when it returns, it is durable.

        False: another process was first. Raises `StoreError`.
        """

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for a while until nobody else refreshes. It saves requests; nothing relies on it."""


_decoder = msgspec.json.Decoder(Record)


class _Version(msgspec.Struct):
    v: int


def encode(record: Record) -> bytes:
    """The record as JSON."""
    return msgspec.json.encode(record)


def decode(content: bytes, where: str) -> Record:
    """The record in `content`. Raises `StoreError`, which names `where` and what to do."""
    try:
        if msgspec.json.decode(content, type=_Version).v > VERSION:
            raise StoreError(f"{where} was written by a newer version of heirloom-client: update this one")
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise StoreError(f"{where} is cut short or damaged: remove it and log in again") from None
