"""The stream that is the log: created as it must be, or verified and refused (CONTRACT §6, DESIGN §4)."""

from dataclasses import dataclass
from typing import Any

import msgspec
from nats.errors import NoRespondersError, TimeoutError

from events.bus import Connection
from events.subjects import EVERYTHING, STREAM, tenant

NOT_FOUND = 10059


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


@dataclass(frozen=True)
class Required:
    """What the log demands of its stream beyond what is always demanded."""

    replicas: int = 1


def configuration(required: Required) -> dict[str, Any]:
    """The stream as it is created: nothing expires, nothing can be deleted, a full disk refuses what is new."""
    return {
        "name": STREAM,
        "subjects": [EVERYTHING],
        "retention": "limits",
        "storage": "file",
        "num_replicas": required.replicas,
        "discard": "new",
        "compression": "s2",
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
    }


def differences(found: dict[str, Any], required: Required) -> list[str]:
    """What of `found` (a stream's configuration as the server tells it) is weaker than required, in words."""
    wanted = configuration(required)
    faults = [
        f"{name} is {found.get(name)!r}, must be {value!r}"
        for name, value in wanted.items()
        if name != "num_replicas" and found.get(name) != value
    ]
    if found.get("num_replicas", 1) < required.replicas:
        faults.append(f"num_replicas is {found.get('num_replicas', 1)}, must be at least {required.replicas}")
    # a stream that takes messages from elsewhere, or rewrites them, is no log of our decisions
    faults += [f"{name} is set" for name in ("mirror", "sources", "subject_transform", "sealed") if found.get(name)]
    return faults


async def ensure(connection: Connection, required: Required) -> None:
    """Create the stream, or verify the one there is.

    Raises `WeakStream` naming each difference, `JetStreamMissing` when the broker has no JetStream to offer.
    """
    info = await _api(connection, f"STREAM.INFO.{STREAM}", {})
    if info.get("error", {}).get("err_code") == NOT_FOUND:
        info = await _api(connection, f"STREAM.CREATE.{STREAM}", configuration(required))
    if "error" in info:
        raise JetStreamMissing(f"the broker refuses the stream {STREAM}: {info['error'].get('description')}")
    if faults := differences(info["config"], required):
        raise WeakStream(faults)


async def last_sequence(connection: Connection) -> int:
    """The stream's newest sequence, 0 when it is empty. Raises `JetStreamMissing`."""
    info = await _api(connection, f"STREAM.INFO.{STREAM}", {})
    if "error" in info:
        raise JetStreamMissing(f"the broker has no stream {STREAM}: {info['error'].get('description')}")
    sequence: int = info["state"]["last_seq"]
    return sequence


async def tenants(connection: Connection) -> list[str]:
    """The names of the tenants in the log. Raises `JetStreamMissing`."""
    info = await _api(connection, f"STREAM.INFO.{STREAM}", {"subjects_filter": tenant("*").filter})
    if "error" in info:
        raise JetStreamMissing(f"the broker has no stream {STREAM}: {info['error'].get('description')}")
    return sorted(subject.split(".")[1] for subject in info["state"].get("subjects") or {})


async def _api(connection: Connection, operation: str, request: dict[str, Any]) -> dict[str, Any]:
    try:
        reply = await connection.request(f"$JS.API.{operation}", msgspec.json.encode(request), timeout=5)
    except (NoRespondersError, TimeoutError) as error:
        raise JetStreamMissing("the broker has no JetStream; start nats-server with -js") from error
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    return answer
