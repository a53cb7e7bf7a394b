"""Closes a book and makes the next one (ADR 43). The broker shows what is done: anybody can go on after a crash.

Before, all who decide on the log must know that the book closes (`service.replicas.book_keeper`).
"""

import asyncio
from typing import Any

import msgspec
from nats.errors import Error as NatsError

from events.bus.connection import Connection
from events.log.books import Book, first_of, is_put_away, missing, put_away_as, stream_info, stream_of
from events.log.jetstream_api import JetStreamMissing, request_json
from events.log.stream import Required, WeakStream, configuration, deviations, put_away

JSZ = "$SYS.REQ.SERVER.PING.JSZ"
JSZ_REQUEST = msgspec.json.encode({"accounts": True, "streams": True, "config": True})
JSZ_SECONDS = 1.0
POLL_SECONDS = 0.05
FENCE_SECONDS = 5.0


class _Config(msgspec.Struct):
    subjects: list[str] = []
    sealed: bool = False


class _State(msgspec.Struct):
    last_seq: int = 0


class _Stream(msgspec.Struct):
    name: str
    created: str = ""
    config: _Config = msgspec.field(default_factory=_Config)
    state: _State = msgspec.field(default_factory=_State)


class _Account(msgspec.Struct):
    stream_detail: list[_Stream] = []


class _Report(msgspec.Struct):
    account_details: list[_Account] = []


class _Server(msgspec.Struct):
    name: str


class _Reply(msgspec.Struct):
    server: _Server
    data: _Report = msgspec.field(default_factory=_Report)


_decode = msgspec.json.Decoder(_Reply).decode


async def expect_room(connection: Connection, book: Book) -> None:
    """Return if the next book can be made, before anything is done that cannot be taken back.

    Raises `WeakStream` where a stream of its name is there, `JetStreamMissing` if a copy's server is away or the
    account may have no more streams, and what `Connection.request` raises.
    """
    await _refuse_a_stranger(connection, book.number + 1)
    await _every_copy_answers(connection, book.stream)
    account = await request_json(connection, "INFO", {})
    for each in (account, *(account.get("tiers") or {}).values()):
        if 0 < (each.get("limits") or {}).get("max_streams", -1) <= each.get("streams", 0):
            raise JetStreamMissing("the account may have no more streams, and the next book is one: raise its limit")


async def close_book(connection: Connection, book: Book) -> Book:
    """Take the subjects from the book, seal it, and make the next one, whatever of that is not done yet.

    In a cluster every copy must show each change before the next one is made: a server that has not got it could
    become the book's leader, and take commits. Raises `WeakStream` where somebody else has changed a book,
    `JetStreamMissing`, and what `Connection.request` raises.
    """
    found = await _config_of(connection, book.stream)
    wanted = configuration(Required(found.get("num_replicas", 1)), book.stream, book.first)
    if not is_put_away(found):
        await _refuse_a_stranger(connection, book.number + 1)
        await _every_copy_answers(connection, book.stream)
        await _change(connection, found, wanted, sealed=False)
    if not (await _config_of(connection, book.stream)).get("sealed"):
        await _every_copy_has(connection, book, sealed=False)
        await _fence(connection, book)
        await _change(connection, await _config_of(connection, book.stream), wanted, sealed=True)
    last = await _every_copy_has(connection, book, sealed=True)
    number = book.number + 1
    following = configuration(Required(wanted["num_replicas"]), stream_of(number), last + 1)
    made = await request_json(connection, f"STREAM.CREATE.{following['name']}", following)
    if "error" in made:
        raise JetStreamMissing(f"the broker refuses the next book: {made['error'].get('description')}")
    if faults := deviations(made["config"], following):
        raise WeakStream(faults, following["name"])
    return Book(number, following["name"], first_of(made["config"]))


async def _config_of(connection: Connection, stream: str) -> dict[str, Any]:
    info = await stream_info(connection, stream)
    if info is None:
        raise missing(stream)
    config: dict[str, Any] = info["config"]
    return config


async def _refuse_a_stranger(connection: Connection, number: int) -> None:
    if await stream_info(connection, stream_of(number)) is not None:
        raise WeakStream(["it is there, and the book before it is open"], stream_of(number))


async def _change(connection: Connection, found: dict[str, Any], wanted: dict[str, Any], *, sealed: bool) -> None:
    """Put the book away, or seal it. Raises `WeakStream` if it is otherwise not as it should be."""
    target = put_away(found, sealed=sealed)
    if faults := deviations(target, put_away(wanted, sealed=sealed)):
        raise WeakStream(faults, wanted["name"])
    changed = await request_json(connection, f"STREAM.UPDATE.{wanted['name']}", target)
    if "error" in changed and not is_put_away(await _config_of(connection, wanted["name"])):
        raise JetStreamMissing(f"the broker refuses to close a book: {changed['error'].get('description')}")


async def _fence(connection: Connection, book: Book) -> None:
    """Return when the leader has worked through everything that it had received for the book.

    What is published here expects what cannot be: it is refused, and stores nothing, after all that came before it.
    """
    headers = {"Nats-Expected-Last-Sequence": str(1 << 62)}
    await connection.request(put_away_as(book.number), b"", timeout=FENCE_SECONDS, headers=headers)


async def _every_copy_answers(connection: Connection, stream: str) -> None:
    """Raise `JetStreamMissing` if a copy's server is away: without it the closing could not be completed."""
    names = await _servers_of(connection, stream)
    if names and (missing := names - (await _shown(connection, stream, names)).keys()):
        raise JetStreamMissing(f"no book is closed while a copy's server is away: {', '.join(sorted(missing))}")


async def _every_copy_has(connection: Connection, book: Book, *, sealed: bool) -> int:
    """Wait until every copy shows that the book is put away, or sealed, with one last sequence; returns that."""
    while True:
        info = await stream_info(connection, book.stream)
        if info is None:
            raise missing(book.stream)
        last: int = info["state"]["last_seq"]
        names = await _servers_of(connection, book.stream)
        shown = await _shown(connection, book.stream, names) if names else {}
        away = [put_away_as(book.number)]
        if all(
            (each := shown.get(name)) is not None
            and (each.config.subjects, each.config.sealed or not sealed) == (away, True)
            and (each.state.last_seq == last or not sealed)
            for name in names
        ):
            return last
        await asyncio.sleep(POLL_SECONDS)


async def _servers_of(connection: Connection, stream: str) -> set[str]:
    """The names of the servers that have a copy; none where there is only one copy."""
    group = (await stream_info(connection, stream) or {}).get("cluster") or {}
    others = {peer["name"] for peer in group.get("replicas") or ()}
    return others | {group["leader"]} if others and group.get("leader") else others


async def _shown(connection: Connection, stream: str, names: set[str]) -> dict[str, _Stream]:
    """What these servers show of their copies, as far as they answer in time.

    Another account may have a stream of that name: it was created at another time.
    """
    created = (await stream_info(connection, stream) or {}).get("created")
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox)
    found: dict[str, _Stream] = {}
    deadline = asyncio.get_running_loop().time() + JSZ_SECONDS
    try:
        await connection.publish(JSZ, JSZ_REQUEST, reply=inbox)
        while names - found.keys() and (left := deadline - asyncio.get_running_loop().time()) > 0:
            reply = _decode((await subscription.next_msg(left)).data)
            for each in (each for account in reply.data.account_details for each in account.stream_detail):
                if (each.name, each.created) == (stream, created):
                    found[reply.server.name] = each
    except (NatsError, TimeoutError):
        pass  # some do not answer
    finally:
        await subscription.unsubscribe()
    return found
