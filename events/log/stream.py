"""The streams of the log and of its checkpoints: created as they must be, or verified and refused (CONTRACT §6)."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from nats.errors import NoRespondersError
from nats.js.errors import ServiceUnavailableError

from events.aggregates.subjects import CHECKPOINT, CHECKPOINTS, EVERYTHING, STREAM, AggregateName, tenant
from events.bus.connection import Connection

log = logging.getLogger("heirloom.stream")

NOT_FOUND = 10059
SUBJECTS = {STREAM: [EVERYTHING], CHECKPOINTS: [CHECKPOINT]}
BEFORE_CHECKPOINTS = ["tokens.>"]
"""The log's subjects as they were when checkpoints had no stream of their own."""

UNSETTLED = (10005, 10008)
"""No suitable peers yet; temporarily unavailable."""
COMPRESSED_BEFORE = (
    "the stream was compressed until now; what it holds already stays compressed, and each cold read of that costs the"
    " broker 10 ms or more. `heirloom backup` and `heirloom restore` write all of it anew"
)
ANSWER_SECONDS = 5.0
ELECTION_SECONDS = 15.0
"""How long a cluster may take to choose its leaders."""


class WeakStream(Exception):
    """The stream exists with settings weaker than required; `differences` names each."""

    def __init__(self, differences: list[str], stream: str = STREAM) -> None:
        super().__init__(
            f"stream {stream} is weaker than this service requires: "
            + "; ".join(differences)
            + ". Correct the stream, or start on a broker without it."
        )
        self.differences = differences


class JetStreamMissing(Exception):
    """The broker answers, but JetStream does not, or it refuses."""


class NoLeader(JetStreamMissing):
    """The broker's cluster has nobody to decide at the moment."""


@dataclass(frozen=True)
class Required:
    """What the log demands of its streams beyond what is always demanded."""

    replicas: int = 1


REVOKED, REVOKED_STORED = "tokens.*.family.*.revoked", "revoked.*.*"
FEED = {"src": REVOKED, "dest": "revoked.{{wildcard(1)}}.{{wildcard(2)}}"}
"""What revokes is said again once it is stored: on the log's own subject also what loses its race is heard."""


def configuration(required: Required, name: str = STREAM) -> dict[str, Any]:
    """A stream as it is created: nothing expires, nothing can be deleted, a full disk refuses what is new."""
    return {
        "name": name,
        "subjects": SUBJECTS[name],
        "retention": "limits",
        "storage": "file",
        "num_replicas": required.replicas,
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
    } | ({"republish": FEED} if name == STREAM else {})


MAY_DIFFER = ("num_replicas", "metadata", "description", "placement", "duplicate_window")
"""More copies are no fault; the rest changes nothing of what a stream takes, keeps or repeats."""
UNSET: tuple[object, ...] = (None, False, 0, -1, "", "none", "default", {}, [])


def deviations(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What of `found` (a stream's or consumer's configuration as the server gives it) is not as `wanted`, in words.

    A setting that is not wanted must be unset: a stream that takes messages from elsewhere, rewrites or repeats them,
    or drops some, is not the one that the code describes.
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


def differences(found: dict[str, Any], required: Required, name: str = STREAM) -> list[str]:
    """What of `found` is not as the log's streams must be, in words."""
    return deviations(found, configuration(required, name))


async def ensure(connection: Connection, required: Required) -> None:
    """Create the streams, or verify those there are.

    Raises `WeakStream` naming each difference, `JetStreamMissing` when the broker has no JetStream to offer.
    """
    for name in SUBJECTS:
        await with_a_leader(partial(_ensure, connection, name, required))


async def ensure_exactly(connection: Connection, wanted: dict[str, Any], *, mends: bool = False) -> None:
    """Create the stream of this configuration, or verify the one there is; with `mends` change that first.

    Raises `WeakStream`, `JetStreamMissing`.
    """

    async def make() -> None:
        info = await ask(connection, f"STREAM.INFO.{wanted['name']}", {})
        if info.get("error", {}).get("err_code") == NOT_FOUND:
            info = await ask(connection, f"STREAM.CREATE.{wanted['name']}", wanted)
        elif mends and "config" in info and deviations(info["config"], wanted):
            info = await ask(connection, f"STREAM.UPDATE.{wanted['name']}", wanted)
        if "error" in info:
            raise JetStreamMissing(f"the broker refuses the stream {wanted['name']}: {info['error']['description']}")
        if faults := deviations(info["config"], wanted):
            raise WeakStream(faults, wanted["name"])

    await with_a_leader(make)


async def every_configuration(connection: Connection) -> list[dict[str, Any]]:
    """The configuration of every stream that the broker has for this account. Raises `JetStreamMissing`."""
    found: list[dict[str, Any]] = []
    while True:
        page = await ask(connection, "STREAM.LIST", {"offset": len(found)})
        if "error" in page:
            raise JetStreamMissing(f"the broker does not list its streams: {page['error'].get('description')}")
        streams = page.get("streams") or []
        found += [stream["config"] for stream in streams]
        if not streams or len(found) >= page["total"]:
            return found


async def _ensure(connection: Connection, name: str, required: Required) -> None:
    info = await ask(connection, f"STREAM.INFO.{name}", {})
    if info.get("error", {}).get("err_code") == NOT_FOUND:
        info = await ask(connection, f"STREAM.CREATE.{name}", configuration(required, name))
    elif name == STREAM and info.get("config", {}).get("subjects") == BEFORE_CHECKPOINTS:
        info = await _make_room(connection, info["config"], required)
    elif "config" in info and (mended := _mended(info["config"], name)) != info["config"]:
        if faults := differences(mended, required, name):
            raise WeakStream(faults, name)
        if mended["compression"] != info["config"].get("compression", "none"):
            log.warning(COMPRESSED_BEFORE, extra={"stream": name})
        info = await ask(connection, f"STREAM.UPDATE.{name}", mended)
    if "error" in info:
        raise JetStreamMissing(f"the broker refuses the stream {name}: {info['error'].get('description')}")
    if faults := differences(info["config"], required, name):
        raise WeakStream(faults, name)


def _mended(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The configuration without what an earlier version left out or did wrong, and a log need not be made anew for."""
    feed = {"republish": FEED} if name == STREAM and "republish" not in found else {}
    return found | feed | {"compression": "none"}


async def with_a_leader(work: Callable[[], Awaitable[object]]) -> None:
    """Do it, again and again while a cluster has not chosen yet who leads it. Raises what it raised last."""
    deadline = asyncio.get_running_loop().time() + ELECTION_SECONDS
    while True:
        try:
            await work()
            return
        except (NoLeader, TimeoutError, ServiceUnavailableError):
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(0.2)


async def _make_room(connection: Connection, found: dict[str, Any], required: Required) -> dict[str, Any]:
    """Leave the checkpoints' subject to their own stream. A log that holds some already cannot be mended so."""
    narrower = found | {"subjects": SUBJECTS[STREAM], "republish": FEED}
    if faults := differences(narrower, required):
        raise WeakStream(faults)
    info = await ask(connection, f"STREAM.INFO.{STREAM}", {"subjects_filter": CHECKPOINT})
    if info.get("state", {}).get("subjects"):
        raise WeakStream(["checkpoints lie among its commits, where only a version before 0.1.0 reads them"])
    return await ask(connection, f"STREAM.UPDATE.{STREAM}", narrower)


async def last_sequence(connection: Connection, name: str = STREAM) -> int:
    """The stream's newest sequence, 0 when it is empty. Raises `JetStreamMissing`."""
    info = await ask(connection, f"STREAM.INFO.{name}", {})
    if "error" in info:
        raise JetStreamMissing(f"the broker has no stream {name}: {info['error'].get('description')}")
    sequence: int = info["state"]["last_seq"]
    return sequence


async def holds_any(connection: Connection, name: str, start: int, until: int) -> bool:
    """Whether the stream's leader has a message in that range, both ends included. Raises `JetStreamMissing`."""
    info = await ask(connection, f"STREAM.INFO.{name}", {"deleted_details": True})
    if "error" in info:
        raise JetStreamMissing(f"the broker has no stream {name}: {info['error'].get('description')}")
    first, last = max(start, info["state"]["first_seq"]), min(until, info["state"]["last_seq"])
    gone = sum(first <= seq <= last for seq in info["state"].get("deleted") or ())
    return bool(last - first + 1 > gone)


async def created(connection: Connection) -> str:
    """When the stream was made, to the nanosecond: no other log has the same. Raises `JetStreamMissing`."""
    info = await ask(connection, f"STREAM.INFO.{STREAM}", {})
    if "error" in info:
        raise JetStreamMissing(f"the broker has no stream {STREAM}: {info['error'].get('description')}")
    when: str = info["created"]
    return when


async def broker_time(connection: Connection) -> datetime:
    """The time on the clock of the log's leader, which stamps what it stores. Raises `JetStreamMissing`."""
    info = await ask(connection, f"STREAM.INFO.{STREAM}", {})
    if "ts" not in info:
        raise JetStreamMissing(f"the broker tells no time of the stream {STREAM}")
    return msgspec.convert(info["ts"], datetime)


async def tenants(connection: Connection) -> list[str]:
    """The names of the tenants in the log. Raises `JetStreamMissing`."""
    info = await ask(connection, f"STREAM.INFO.{STREAM}", {"subjects_filter": tenant("*").filter})
    if "error" in info:
        raise JetStreamMissing(f"the broker has no stream {STREAM}: {info['error'].get('description')}")
    return sorted(AggregateName.parse(subject).tenant for subject in info["state"].get("subjects") or {})


async def ask(connection: Connection, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    """What JetStream answers, an `error` of its own too. Raises `JetStreamMissing`, and `NoLeader` for a while."""
    try:
        subject = f"{connection.jetstream_api}.{operation}"
        reply = await connection.request(subject, msgspec.json.encode(request), timeout=ANSWER_SECONDS)
    except NoRespondersError as error:
        raise JetStreamMissing("the broker has no JetStream; start nats-server with -js") from error
    except TimeoutError as error:
        raise NoLeader("the broker's JetStream does not answer; is it full, or most of its cluster gone?") from error
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if answer.get("error", {}).get("err_code") in UNSETTLED:
        raise NoLeader(f"the broker's cluster has no leader: {answer['error'].get('description')}")
    return answer
