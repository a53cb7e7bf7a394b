"""A commit as it lies in the log; whoever only reads such has no need of a connection."""

import msgspec


class Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """`seq` is its stream sequence, `body` the commit's JSON (`events.commit`)."""

    seq: int
    subject: str
    body: bytes
