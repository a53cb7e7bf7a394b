"""The books of the log, the streams that it is kept in one after another: the aggregate `tokens._.book` (ADR 43)."""

from typing import TypeAlias, assert_never

import msgspec

from events.aggregates.commit import Codec, Commit


class BookClosing(msgspec.Struct, frozen=True, tag_field="type", tag="BookClosing"):
    """The open book, whose `number` this is, is about to be closed. It takes commits until that is done."""

    number: int


class BookOpened(msgspec.Struct, frozen=True, tag_field="type", tag="BookOpened"):
    """The book before is closed. This one begins at the sequence `first`."""

    number: int
    first: int


BookEvent: TypeAlias = BookClosing | BookOpened


class BookState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest book: its number, its first sequence, and whether it is about to be closed."""

    number: int = 1
    first: int = 1
    closing: bool = False

    def age(self) -> tuple[int, bool]:
        """The order in which states follow each other."""
        return self.number, self.closing


FIRST_BOOK = BookState()
"""The state before the first commit about books."""

BookCommit: TypeAlias = Commit[BookEvent, BookState]
codec: Codec[BookEvent, BookState] = Codec(BookCommit)


def evolve(state: BookState | None, event: BookEvent) -> BookState:
    """The state after `event`. Raises `ValueError` for an event that cannot be the next one."""
    before = state or FIRST_BOOK
    match event:
        case BookClosing():
            if before.closing or event.number != before.number:
                raise ValueError("another book is closed than the open one")
            return BookState(before.number, before.first, closing=True)
        case BookOpened():
            if not before.closing or event.number != before.number + 1 or event.first <= before.first:
                raise ValueError("a book is opened that does not follow one that closes")
            return BookState(event.number, event.first)
        case _:
            assert_never(event)
