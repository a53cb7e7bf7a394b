"""A model of the log's books (ADR 43): two replicas, a closer and a broker, one step at a time.

Every value is immutable, and `steps` gives every world that one step leads to. So a search sees every order of
events: messages that arrive late or never, lost acknowledgements, leases that lapse, a closer that dies. A step that
breaks a rule raises `Broken`.

The model has an order, and no time. A family is live or ended; a refresh is only "one more commit on top of the one
that was read".
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

Fault = Literal[
    "",
    "no stream expected",  # a commit that expects 0 does not name its book
    "no barrier",  # the closer does not wait until every replica knows of the closing
    "guard of the open book",  # a person's last commit is searched in the open book alone
    "first sequence read early",  # the next book begins where the last one ended before it was left
    "answers without a lease",
    "next book read last",  # while a book closes, the next one is read after it
    "acknowledgement in the newest book",  # a commit without an answer is searched in the newest book alone
]

Operation = Literal["refresh f", "introspect f", "revoke f", "block", "begin g", "introspect g", "revoke g"]


class Broken(Exception):
    """A promise of the contract's section 3 is broken."""


class Entry(NamedTuple):
    """A commit in the log; `previous` is the aggregate's sequence below it as its writer read it, 0 for none."""

    seq: int
    book: int
    aggregate: str
    state: str
    previous: int
    writer: tuple[int, int]


class Append(NamedTuple):
    """A sent commit: stored if `guard` still ends with `expected` in the book that takes it."""

    aggregate: str
    state: str
    previous: int
    guard: str
    expected: int
    book: int
    writer: tuple[int, int]


class Replica(NamedTuple):
    """What a replica knows, and the progress of its request."""

    operations: tuple[Operation, ...]
    book: int = 1
    closing: bool = False
    leased: bool = True
    number: int = 0
    at: Literal["idle", "read", "read the old", "answer", "sent", "unanswered", "look", "stored"] = "idle"
    began_in: tuple[int, bool] = (0, False)
    """The book that it knew when the request began, and whether that was closing."""
    ended_before: frozenset[str] = frozenset()
    """The families whose end was acknowledged when the request began."""
    head: Entry | None = None
    target: int = 0
    next_exists: bool = False
    append: Append | None = None


class World(NamedTuple):
    """The whole state; `attached` is the book that takes new commits, 0 while there is none.

    `closings`, `losses`, `lapses` and `crashes` are how many of each may still happen.
    """

    log: tuple[Entry, ...]
    replicas: tuple[Replica, ...]
    closings: int
    losses: int = 0
    lapses: int = 0
    crashes: int = 0
    attached: int = 1
    books: int = 1
    next_seq: int = 2
    read_next_seq: int = 0
    fenced: int = 0
    """The book whose barrier has passed, as this closer knows; a crash forgets it."""
    wire: frozenset[Append] = frozenset()
    ended: frozenset[str] = frozenset()
    fault: Fault = ""


def start(
    operations: tuple[tuple[Operation, ...], ...],
    closings: int,
    *,
    losses: int = 0,
    lapses: int = 0,
    crashes: int = 0,
) -> World:
    """A log with one family in its first book, and no commit about its person.

    `operations` are each replica's requests, in order. The numbers bound the closings of books, the lost or late
    messages and acknowledgements, the lapsed leases and the crashes of closers.
    """
    log = (Entry(1, 1, "f", "live", 0, (-1, 0)),)
    return World(log, tuple(Replica(each) for each in operations), closings, losses, lapses, crashes)


def steps(world: World) -> Iterator[World]:
    """Every world that one step leads to. Raises `Broken`."""
    yield from _close(world)
    yield from _deliver(world)
    for index in range(len(world.replicas)):
        yield from _learn(world, index)
        yield from _lapse(world, index)
        yield from _request(world, index)


def is_done(world: World) -> bool:
    """Whether all requests and closings are done."""
    return not world.closings and world.attached == world.books and all(not each.operations for each in world.replicas)


# the broker


def _last(world: World, aggregate: str, *books: int) -> Entry | None:
    return next((each for each in reversed(world.log) if each.aggregate == aggregate and each.book in books), None)


def _stored(world: World, aggregate: str, state: str, previous: int, writer: tuple[int, int]) -> World:
    """The world with one more commit in the attached book. Raises `Broken` if the aggregate may not have it."""
    below = next((each for each in reversed(world.log) if each.aggregate == aggregate), None)
    if any(each.seq == world.next_seq for each in world.log):
        raise Broken(f"the sequence {world.next_seq} is in two books")
    if previous != (below.seq if below else 0):
        raise Broken(f"{aggregate} has two commits on top of the one at {previous}")
    if below is not None and below.state != "live" and aggregate != "book":
        raise Broken(f"{aggregate} goes on after its end")
    if any(each.writer == writer for each in world.log):
        raise Broken("one request is decided twice")
    if (aggregate, state) == ("g", "live") and _last(world, "person", *range(1, 9)):
        raise Broken("a family began after its person was blocked")
    entry = Entry(world.next_seq, world.attached, aggregate, state, previous, writer)
    return world._replace(log=(*world.log, entry), next_seq=world.next_seq + 1)


def _deliver(world: World) -> Iterator[World]:
    """A commit reaches the broker and its answer the replica; or one of them is lost or late."""
    for append in world.wire:
        index = append.writer[0]
        rest = world._replace(wire=world.wire - {append})
        replica = world.replicas[index]
        waits = replica.at == "sent" and replica.append == append
        taken = rest
        is_taken = world.attached != 0 and _holds(world, append)
        if is_taken:
            taken = _stored(rest, append.aggregate, append.state, append.previous, append.writer)
        if not waits:
            yield taken
            continue
        answered = replica._replace(at="stored", append=None) if is_taken else replica._replace(at="unanswered")
        yield _with(taken, index, answered)
        if world.losses:
            yield _with(taken._replace(losses=world.losses - 1), index, replica._replace(at="unanswered"))
    for index, replica in enumerate(world.replicas):
        if replica.at == "sent" and world.losses:  # no longer awaited; it may still arrive
            yield _with(world._replace(losses=world.losses - 1), index, replica._replace(at="unanswered"))


def _holds(world: World, append: Append) -> bool:
    """Whether the commit is for the attached book, and that ends as it expects."""
    if not append.expected and append.book != world.attached and world.fault != "no stream expected":
        return False
    last = _last(world, append.guard, world.attached)
    return (last.seq if last else 0) == append.expected


# the closer


def _close(world: World) -> Iterator[World]:
    """The closer's next step, which follows from log and broker except for the barrier."""
    book, is_closing = world.books, _controlled(world, world.books, "closing")
    if world.closings and world.attached == book and _controlled(world, book, "open") and not is_closing:
        previous = _last(world, "book", *range(1, 9))
        closing = _stored(world, "book", "closing", previous.seq if previous else 0, (-2, 2 * book))
        yield closing._replace(closings=world.closings - 1)
    if is_closing and world.attached == book and world.fenced != book and _barrier(world, book):
        yield world._replace(fenced=book, read_next_seq=world.next_seq)
    if is_closing and world.attached == book and world.fenced == book:
        yield world._replace(attached=0)
    if world.attached == 0:
        first = world.read_next_seq if world.fault == "first sequence read early" else world.next_seq
        yield world._replace(books=book + 1, attached=book + 1, next_seq=first, fenced=0)
    if world.attached == book and not _controlled(world, book, "open"):
        previous = _last(world, "book", *range(1, 9))
        yield _stored(world, "book", "open", previous.seq if previous else 0, (-2, 2 * book + 1))
    if world.crashes and world.fenced:
        yield world._replace(fenced=0, crashes=world.crashes - 1)


def _controlled(world: World, book: int, state: str) -> bool:
    if (book, state) == (1, "open"):
        return True
    return any(each.aggregate == "book" and each.book == book and each.state == state for each in world.log)


def _barrier(world: World, book: int) -> bool:
    """Whether every replica that decides or answers knows that the book is closing."""
    if world.fault == "no barrier":
        return True
    knows = (book, True)
    return all(
        not each.leased or ((each.book, each.closing) >= knows and (each.at == "idle" or each.began_in >= knows))
        for each in world.replicas
    )


# a replica


def _with(world: World, index: int, replica: Replica) -> World:
    replicas = list(world.replicas)
    replicas[index] = replica
    return world._replace(replicas=tuple(replicas))


def _learn(world: World, index: int) -> Iterator[World]:
    """Apply a commit about the books. A lease is renewed once everything in the log is applied."""
    replica = world.replicas[index]
    learned = replica
    if not replica.closing and _controlled(world, replica.book, "closing"):
        learned = replica._replace(closing=True)
    elif replica.closing and _controlled(world, replica.book + 1, "open"):
        learned = replica._replace(book=replica.book + 1, closing=False)
    if learned != replica:
        yield _with(world, index, learned)
    elif not replica.leased:
        yield _with(world, index, replica._replace(leased=True))


def _lapse(world: World, index: int) -> Iterator[World]:
    """The lease ends; requests decided under it are not answered."""
    replica = world.replicas[index]
    if not replica.leased or not world.lapses:
        return
    lapsed = world._replace(lapses=world.lapses - 1)
    if world.fault == "answers without a lease":
        yield _with(lapsed, index, replica._replace(leased=False))
    else:
        yield _with(lapsed, index, _finished(replica)._replace(leased=False))


def _finished(replica: Replica) -> Replica:
    """The replica idle, with its current operation given up or done."""
    if replica.at == "idle":
        return replica
    return Replica(replica.operations[1:], replica.book, replica.closing, replica.leased, replica.number + 1)


def _request(world: World, index: int) -> Iterator[World]:
    replica = world.replicas[index]
    if not replica.operations:
        return
    match replica.at:
        case "idle" if replica.leased or world.fault == "answers without a lease":
            known = (replica.book, replica.closing)
            yield _with(world, index, replica._replace(at="read", began_in=known, ended_before=world.ended))
        case "read":
            yield _with(world, index, _read(world, replica))
        case "read the old":
            yield _with(world, index, _read_the_old(world, replica))
        case "answer":
            yield _decide(world, index)
        case "unanswered":
            seen = world.books > (replica.append.book if replica.append else 0)
            yield _with(world, index, replica._replace(at="look", next_exists=seen))
        case "look":
            yield _look(world, index)
        case "stored":
            yield _answer(world, index, is_live=True)
        case _:
            return


def _subject(operation: Operation) -> str:
    """The aggregate that the operation reads."""
    return "person" if operation in ("block", "begin g") else operation.rpartition(" ")[2]


def _read(world: World, replica: Replica) -> Replica:
    """Read the open book first, and the closed ones for what it lacks; while one closes, read the next one first."""
    aggregate = _subject(replica.operations[0])
    is_forgotten = world.fault == "guard of the open book" and aggregate == "person"
    closed = range(0) if is_forgotten else range(1, replica.book)
    if not replica.closing:
        head = _last(world, aggregate, replica.book) or _last(world, aggregate, *closed)
        return replica._replace(at="answer", head=head, target=replica.book)
    following = replica.book + 1
    if world.fault == "next book read last":
        return replica._replace(at="read the old", head=_last(world, aggregate, replica.book, *closed))
    head = _last(world, aggregate, following)
    target = following if world.books >= following else replica.book
    return replica._replace(at="answer" if head else "read the old", head=head, target=target)


def _read_the_old(world: World, replica: Replica) -> Replica:
    """Read the older books for what the next one lacks."""
    aggregate, book = _subject(replica.operations[0]), replica.target
    if world.fault == "next book read last":
        following = max(replica.book, replica.began_in[0]) + 1 if replica.closing else replica.book
        head = _last(world, aggregate, following) or replica.head
        exists = world.books >= following
        return replica._replace(at="answer", head=head, target=following if exists else replica.book)
    closed = range(book if world.fault == "guard of the open book" and aggregate == "person" else 1, book + 1)
    return replica._replace(at="answer", head=_last(world, aggregate, *closed))


def _decide(world: World, index: int) -> World:
    """Append on top of what was read, or answer at once."""
    replica = world.replicas[index]
    operation, head = replica.operations[0], replica.head
    guard, begins = _subject(operation), operation in ("block", "begin g")
    is_live = head is None if begins else head is not None and head.state == "live"
    if not is_live or operation.startswith("introspect"):
        return _answer(world, index, is_live=is_live)
    below = head.seq if head else 0
    expected = below if head and head.book == replica.target else 0
    aggregate, state, previous = {
        "refresh f": ("f", "live", below),
        "revoke f": ("f", "ended", below),
        "revoke g": ("g", "ended", below),
        "block": ("person", "ended", 0),
        "begin g": ("g", "live", 0),
    }[operation]
    append = Append(aggregate, state, previous, guard, expected, replica.target, (index, replica.number))
    sent = replica._replace(at="sent", append=append, head=None, target=0)
    return _with(world._replace(wire=world.wire | {append}), index, sent)


def _look(world: World, index: int) -> World:
    """The fate of a commit without an answer: stored, overtaken, excluded for good, or sent again."""
    replica = world.replicas[index]
    append = replica.append
    assert append is not None
    place = world.books if world.fault == "acknowledgement in the newest book" else append.book
    later = [
        each
        for each in world.log
        if each.aggregate == append.aggregate and each.book == place and each.seq > append.expected
    ]
    if later and later[0].writer == append.writer:
        return _with(world, index, replica._replace(at="stored", append=None, next_exists=False))
    if append.guard != append.aggregate:  # nothing would exclude a second one
        return _with(world, index, _finished(replica))
    if later or replica.next_exists:
        again = replica._replace(at="read", append=None, next_exists=False)
        return _with(world, index, again)
    sent = replica._replace(at="sent", next_exists=False)
    return _with(world._replace(wire=world.wire | {append}), index, sent)


def _answer(world: World, index: int, *, is_live: bool) -> World:
    """The reply, compared with what was acknowledged before the request began. Raises `Broken`."""
    replica = world.replicas[index]
    operation = replica.operations[0]
    of = operation.rpartition(" ")[2]
    if is_live and operation.startswith(("introspect", "refresh")) and of in replica.ended_before:
        raise Broken(f"{of} was answered as live after its end was acknowledged")
    done = _with(world, index, _finished(replica))
    if operation.startswith("revoke"):
        return done._replace(ended=world.ended | {of})
    return done
