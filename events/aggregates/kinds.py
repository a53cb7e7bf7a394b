"""The kinds of aggregates, one row each: their subjects, their commits, and how events change their states."""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from events.aggregates import book, client, family_commit, key, role, settings, subject
from events.aggregates.aggregate_names import CLIENT_ID, FAMILY_ID, ROLE_NAME
from events.aggregates.commit import Codec, Time
from events.aggregates.following import Fold, fold_and_check, folding


class Kind:
    """One kind of aggregate: the number of tokens in its subjects, the pattern of its ids, its codec and its fold.

    `decode_unfolded` decodes a commit but leaves the state as raw JSON, for `decode_state`.
    """

    def __init__(self, name: str, parts: int, id: re.Pattern[str], codec: Codec[Any, Any], fold: Fold) -> None:
        self.name = name
        self.parts = parts
        self.id = id
        self.codec = codec
        self.fold = fold
        # not `Commit[event, msgspec.Raw]`: that requires an actor and is frozen, but `chain` puts a state in its place
        event: Any = codec.written_event
        actor = ("actor", str | UnsetType, UNSET)  # not needed here; `grammar.read_commit` requires it where it must be
        fields: list[Any] = [("v", int), ("id", str), ("at", Time), actor, ("prev", str | None), ("prev_seq", int)]
        fields += [("events", tuple[event, ...]), ("state", msgspec.Raw), ("aggregate", str | None, None)]
        commit = msgspec.defstruct("Commit", fields, gc=False, kw_only=True, omit_defaults=True)
        self.decode_unfolded: Callable[[bytes], Any] = msgspec.json.Decoder(commit).decode
        self.decode_state: Callable[[bytes], Any] = msgspec.json.Decoder(codec.state).decode


FAMILY = Kind("family", 5, FAMILY_ID, family_commit.codec, fold_and_check)
KINDS = {
    kind.name: kind
    for kind in (
        FAMILY,
        Kind("tenant", 3, re.compile("tenant"), settings.codec, folding(settings.evolve)),
        Kind("client", 4, CLIENT_ID, client.codec, folding(client.evolve)),
        Kind("key", 4, re.compile("[A-Za-z0-9_-]{1,64}"), key.codec, folding(key.evolve)),
        Kind("role", 4, ROLE_NAME, role.codec, folding(role.evolve)),
        Kind("subject", 4, re.compile("[0-9a-f]{32}"), subject.codec, folding(subject.evolve)),
        Kind("book", 3, re.compile("book"), book.codec, folding(book.evolve)),
    )
}
"""By the third token of the subject."""
