"""The streams of the log and of its checkpoints: created, or verified and refused if weaker (CONTRACT §6)."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, EVERYTHING, STREAM, AggregateName, tenant
from events.bus.connection import Connection
from events.log.books import books_of, is_put_away, missing, number_of, put_away_as, stream_info, stream_of
from events.log.jetstream_api import NOT_FOUND, JetStreamMissing, request_json, with_a_leader

log = logging.getLogger("heirloom.stream")

SUBJECTS = {STREAM: [EVERYTHING], CHECKPOINTS: [CHECKPOINT]}
BEFORE_CHECKPOINTS = ["tokens.>"]
"""The log's subjects in versions that kept the checkpoints in the same stream."""

COMPRESSED_BEFORE = (
    "the stream was compressed until now; what it holds already stays compressed, and each cold read of that costs the"
    " broker 10 ms or more. `heirloom backup` and `heirloom restore` write all of it anew"
)


class WeakStream(Exception):
    """The stream exists, and some of its settings are weaker than required; its `differences` lists them."""

    def __init__(self, differences: list[str], stream: str = STREAM) -> None:
        super().__init__(
            f"stream {stream} is weaker than this service requires: "
            + "; ".join(differences)
            + ". Correct the stream, or start on a broker without it."
        )
        self.differences = differences


@dataclass(frozen=True)
class Required:
    """The requirements on the log's streams that depend on the deployment."""

    copies: int = 1


REVOKED, REVOKED_STORED = "tokens.*.family.*.revoked", "revoked.*.*"
FEED = {"src": REVOKED, "dest": "revoked.{{wildcard(1)}}.{{wildcard(2)}}"}
"""JetStream republishes stored revocations here. Subscribers of the log's own subject would also receive publishes that
were rejected."""


def configuration(required: Required, name: str = STREAM, first: int = 1) -> dict[str, Any]:
    """The configuration of a new stream: nothing expires, nothing can be deleted, a full one takes no more.

    A book of the log (`events.log.books`) begins at the sequence `first`.
    """
    is_of_log = number_of(name) is not None
    return {
        "name": name,
        "subjects": SUBJECTS[STREAM if is_of_log else name],
        "retention": "limits",
        "storage": "file",
        "num_replicas": required.copies,
        "discard": "new",
        "compression": "none",  # ADR 0033
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
    } | (({"republish": FEED} | ({"first_seq": first} if first > 1 else {})) if is_of_log else {})


def put_away(config: dict[str, Any], *, sealed: bool) -> dict[str, Any]:
    """The configuration of an open book once it takes no more commits; at last it is `sealed`."""
    number = number_of(config["name"])
    assert number is not None
    return config | {"subjects": [put_away_as(number)]} | ({"sealed": True} if sealed else {})


MAY_DIFFER = ("num_replicas", "metadata", "description", "placement", "duplicate_window")
"""Settings that may differ: more copies are welcome, and the others affect neither what is stored nor republished."""
UNSET: tuple[object, ...] = (None, False, 0, -1, "", "none", "default", {}, [])


def deviations(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """List the differences of `found`, a stream's or consumer's configuration from the server, from `wanted`, in words.

    A setting that is not in `wanted` must be unset: a stream that sources messages from elsewhere, transforms,
    republishes or drops some, is not the one that the code describes.
    """
    faults = [
        f"{setting} is {found.get(setting)!r}, must be {value!r}"
        for setting, value in wanted.items()
        if setting not in MAY_DIFFER and found.get(setting) != value
    ]
    if found.get("num_replicas", 1) < wanted.get("num_replicas", 0):
        faults.append(f"num_replicas is {found.get('num_replicas', 1)}, must be at least {wanted['num_replicas']}")
    others = found.keys() - wanted.keys() - set(MAY_DIFFER)
    return faults + [f"{setting} is set" for setting in sorted(others) if found[setting] not in UNSET]


async def ensure(connection: Connection, required: Required) -> None:
    """Create the streams, or verify existing ones, every book of the log among them.

    Raises `WeakStream` with each difference, and `JetStreamMissing` if the broker has no JetStream.
    """
    for name in SUBJECTS:
        wanted = configuration(required, name)
        await _make(connection, wanted, partial(_mended, connection, wanted))


async def ensure_exactly(connection: Connection, wanted: dict[str, Any], *, mends: bool = False) -> None:
    """Create the stream of this configuration, or verify the existing one; with `mends`, update that first.

    Raises `WeakStream` and `JetStreamMissing`.
    """

    async def mended(found: dict[str, Any]) -> dict[str, Any]:
        return wanted if mends and deviations(found, wanted) else found

    await _make(connection, wanted, mended)


async def every_configuration(connection: Connection) -> list[dict[str, Any]]:
    """The configurations of all streams in this account. Raises `JetStreamMissing`."""
    found: list[dict[str, Any]] = []
    while True:
        page = await request_json(connection, "STREAM.LIST", {"offset": len(found)})
        if "error" in page:
            raise JetStreamMissing(f"the broker does not list its streams: {page['error'].get('description')}")
        streams = page.get("streams") or []
        found += [stream["config"] for stream in streams]
        if not streams or len(found) >= page["total"]:
            return found


async def _make(
    connection: Connection, wanted: dict[str, Any], mended: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
) -> None:
    """Create the stream, or verify the existing one after an update to what `mended` makes of its configuration."""
    name = wanted["name"]

    async def make() -> None:
        info = await request_json(connection, f"STREAM.INFO.{name}", {})
        if info.get("error", {}).get("err_code") == NOT_FOUND:
            info = await request_json(connection, f"STREAM.CREATE.{name}", wanted)
        elif name == STREAM and "config" in info and is_put_away(info["config"]):
            await _verify_books(connection, Required(wanted["num_replicas"]))
            return
        elif "config" in info and (better := await mended(info["config"])) != info["config"]:
            info = await request_json(connection, f"STREAM.UPDATE.{name}", better)
        if "error" in info:
            raise JetStreamMissing(f"the broker refuses the stream {name}: {info['error'].get('description')}")
        if faults := deviations(info["config"], wanted):
            raise WeakStream(faults, name)

    await with_a_leader(make)


async def _verify_books(connection: Connection, required: Required) -> None:
    """Verify all books, of which the first is put away. Raises `WeakStream` and `JetStreamMissing`."""
    number = first = 1
    is_last = False
    while not is_last:
        name = stream_of(number)
        info = await stream_info(connection, name)
        if info is None:  # its closing goes on here, unless a later book is there
            later = [found["name"] for found in await every_configuration(connection) if _is_later(found, number)]
            if later:
                raise WeakStream([f"it is missing, and {min(later)} is there"], name)
            return
        is_last = not is_put_away(info["config"])
        if faults := _faults_of_book(info, configuration(required, name, first), is_last=is_last):
            raise WeakStream(faults, name)
        number, first = number + 1, info["state"]["last_seq"] + 1


def _is_later(config: dict[str, Any], number: int) -> bool:
    return (number_of(config["name"]) or 0) > number


def _faults_of_book(info: dict[str, Any], wanted: dict[str, Any], *, is_last: bool) -> list[str]:
    config, state, first = info["config"], info["state"], wanted.get("first_seq", 1)
    if is_last:
        return deviations(config, wanted)
    faults = deviations(config, put_away(wanted, sealed=bool(config.get("sealed"))))
    if (lacking := state["last_seq"] - first + 1 - state["messages"]) > 0:
        faults.append(f"it lacks {lacking:,} of its messages")
    return faults


async def _mended(connection: Connection, wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The configuration `found`, with those faults of earlier versions corrected that an update can correct.

    Raises `WeakStream` if it has others, or if the log contains checkpoints.
    """
    name = wanted["name"]
    mended = found | ({"republish": FEED} if name == STREAM and "republish" not in found else {})
    if may_hold_checkpoints := name == STREAM and found.get("subjects") == BEFORE_CHECKPOINTS:
        mended |= {"subjects": SUBJECTS[STREAM], "republish": FEED}
    else:
        mended |= {"compression": "none"}
    if mended == found:
        return found
    if faults := deviations(mended, wanted):
        raise WeakStream(faults, name)
    if may_hold_checkpoints:
        info = await request_json(connection, f"STREAM.INFO.{STREAM}", {"subjects_filter": CHECKPOINT})
        if info.get("state", {}).get("subjects"):
            raise WeakStream(["checkpoints lie among its commits, where only a version before 0.1.0 reads them"])
    elif mended["compression"] != found.get("compression", "none"):
        log.warning(COMPRESSED_BEFORE, extra={"stream": name})
    return mended


class StreamSize(NamedTuple):
    """How many messages the log has, on how many subjects its newest book, and the bytes of one copy of the log."""

    messages: int
    subjects: int
    bytes: int


async def size(connection: Connection) -> StreamSize:
    """The log's size as the leaders have it. Raises `JetStreamMissing`."""
    states = await _states(connection)
    subjects = states[-1].get("num_subjects", 0)
    return StreamSize(sum(state["messages"] for state in states), subjects, sum(state["bytes"] for state in states))


async def last_sequence(connection: Connection, name: str = STREAM) -> int:
    """The newest sequence of the log, or of another stream; 0 without a message. Raises `JetStreamMissing`."""
    info = await (books_of(connection).look() if name == STREAM else _info(connection, name))
    sequence: int = info["state"]["last_seq"]
    return sequence


async def holds_any(connection: Connection, name: str, start: int, until: int) -> bool:
    """Whether the stream's leader has a message in that range, both ends included. Raises `JetStreamMissing`."""
    state = (await _info(connection, name, deleted_details=True))["state"]
    first, last = max(start, state["first_seq"]), min(until, state["last_seq"])
    gone = sum(first <= seq <= last for seq in state.get("deleted") or ())
    return bool(last - first + 1 > gone)


async def created(connection: Connection) -> str:
    """When the log's first stream was created, to the nanosecond: no two logs share that. Raises `JetStreamMissing`."""
    when: str = (await _info(connection, STREAM))["created"]
    return when


async def broker_time(connection: Connection) -> datetime:
    """The clock of the leader of the log's first stream. Raises `JetStreamMissing`."""
    info = await request_json(connection, f"STREAM.INFO.{STREAM}", {})
    if "ts" not in info:
        raise JetStreamMissing(f"the broker reports no time of the stream {STREAM}")
    return msgspec.convert(info["ts"], datetime)


async def tenants(connection: Connection) -> list[str]:
    """The names of the tenants in the log. Raises `JetStreamMissing`."""
    found: set[str] = set()
    for state in await _states(connection, subjects_filter=tenant("*").filter):
        found |= {AggregateName.parse(subject).tenant for subject in state.get("subjects") or {}}
    return sorted(found)


async def _states(connection: Connection, **request: Any) -> list[dict[str, Any]]:
    """The states of all books, from the first to the newest."""
    books = books_of(connection)
    await books.look()
    return [(await _info(connection, book.stream, **request))["state"] for book in books.in_order()]


async def _info(connection: Connection, name: str, **request: Any) -> dict[str, Any]:
    info = await stream_info(connection, name, **request)
    if info is None:
        raise missing(name)
    return info
