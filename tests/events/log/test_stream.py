"""The streams of the log and its checkpoints, and logs from before checkpoints had their own."""

import builtins
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, TimeoutError
from nats.js.errors import ServiceUnavailableError

from events.aggregates.aggregate_names import CHECKPOINT, CHECKPOINTS, STREAM
from events.bus.connect import connect
from events.bus.connection import Connection
from events.log import jetstream_api, stream
from tests.broker import Broker


async def test_an_earlier_log_gets_a_stream_for_checkpoints(nats_server: Broker) -> None:
    """Its subjects are narrowed, its messages stay, and checkpoints go to their own stream."""
    connection = await connect(nats_server.url, "test")
    jetstream = connection.jetstream()
    await _make_as_before(connection)
    await jetstream.publish("tokens.acme.tenant", b"")
    await stream.ensure(connection, stream.Required())
    await jetstream.publish(CHECKPOINT, b"")
    assert await stream.last_sequence(connection) == await stream.last_sequence(connection, CHECKPOINTS) == 1
    with pytest.raises(NatsError):  # it is no longer the log's subject, and expects the other stream
        await jetstream.publish(CHECKPOINT, b"", stream=STREAM)
    await connection.close()


async def test_a_log_with_checkpoints_in_it_is_refused(nats_server: Broker) -> None:
    """They cannot be removed, and are no commits."""
    connection = await connect(nats_server.url, "test")
    await _make_as_before(connection)
    await connection.jetstream().publish(CHECKPOINT, b"")
    with pytest.raises(stream.WeakStream, match="checkpoints lie among its commits"):
        await stream.ensure(connection, stream.Required())
    await connection.close()


@pytest.mark.parametrize("name", [STREAM, CHECKPOINTS])
async def test_a_compressed_log_is_compressed_no_more(
    nats_server: Broker, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """ADR 33: a cold read of a compressed block costs the broker 10 ms, every time; a warning names the stream."""
    connection = await connect(nats_server.url, "test")
    before = stream.configuration(stream.Required(), name) | {"compression": "s2"}
    await connection.request(f"$JS.API.STREAM.CREATE.{name}", msgspec.json.encode(before))
    await connection.jetstream().publish(before["subjects"][0].replace(">", "acme.tenant").replace("*", "acme"), b"")
    await stream.ensure(connection, stream.Required())
    await stream.ensure(connection, stream.Required())
    info = await connection.jetstream().stream_info(name)
    assert (info.config.compression, info.state.messages) == ("none", 1)
    assert [(record.message, record.__dict__["stream"]) for record in caplog.records] == [
        (stream.COMPRESSED_BEFORE, name)
    ]
    await connection.close()


async def _make_as_before(connection: Connection) -> None:
    configuration = stream.configuration(stream.Required()) | {"subjects": stream.BEFORE_CHECKPOINTS}
    await connection.request(f"$JS.API.STREAM.CREATE.{STREAM}", msgspec.json.encode(configuration))


class Api:
    """Answers each request of the JetStream API with the next of `answers`, and records the requests."""

    jetstream_api = "$JS.API"

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, Any]]()

    async def request(self, subject: str, body: bytes, **options: float) -> Any:
        assert options == {"timeout": jetstream_api.REPLY_TIMEOUT_SECONDS}
        self.asked.append((subject.removeprefix("$JS.API."), msgspec.json.decode(body)))
        answer = self.answers.pop(0)
        if isinstance(answer, type):
            raise answer
        return SimpleNamespace(data=msgspec.json.encode(answer))


def api(*answers: Any) -> tuple[Any, Api]:
    """A connection to that API, and the API."""
    made = Api(*answers)
    return cast("Connection", made), made


def refused(code: int) -> dict[str, Any]:
    """An error of the API."""
    return {"error": {"code": 500, "err_code": code, "description": "what it was"}}


WANTED = stream.configuration(stream.Required(3))
MISSING = refused(10059)


def test_a_log_loses_nothing() -> None:
    """CONTRACT §6: nothing expires, is deleted, compressed or overwritten; revocations are republished."""
    wanted = stream.configuration(stream.Required(3))
    assert wanted == {
        "name": "TOKENS",
        "subjects": stream.SUBJECTS[STREAM],
        "retention": "limits",
        "storage": "file",
        "num_replicas": 3,
        "discard": "new",
        "compression": "none",
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "deny_delete": True,
        "deny_purge": True,
        "allow_direct": True,
        "allow_atomic": True,
        "republish": {"src": "tokens.*.family.*.revoked", "dest": "revoked.{{wildcard(1)}}.{{wildcard(2)}}"},
    }
    checkpoints = stream.configuration(stream.Required(), CHECKPOINTS)
    same = {name: wanted[name] for name in wanted.keys() - {"name", "subjects", "num_replicas", "republish"}}
    assert checkpoints == {"name": CHECKPOINTS, "subjects": [CHECKPOINT], "num_replicas": 1} | same


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"num_replicas": 5, "placement": {"cluster": "x"}, "description": "d", "metadata": {"m": "n"}}, []),
        ({"sealed": False, "mirror": None, "sources": [], "max_msg_size": -1, "persist_mode": "default"}, []),
        ({"num_replicas": 2}, ["num_replicas is 2, must be at least 3"]),
        ({"max_age": 5}, ["max_age is 5, must be 0"]),
        ({"deny_delete": False}, ["deny_delete is False, must be True"]),
        ({"sealed": True, "no_ack": True}, ["no_ack is set", "sealed is set"]),
        ({"discard": "old", "sealed": True}, ["discard is 'old', must be 'new'", "sealed is set"]),
    ],
    ids=str,
)
def test_each_difference_is_named(change: dict[str, Any], expected: list[str]) -> None:
    """With its value and the required one; additional copies are no difference."""
    assert stream.deviations(WANTED | change, WANTED) == expected


def test_missing_settings_have_their_defaults() -> None:
    """One copy, and no other setting."""
    found = stream.deviations({}, {"num_replicas": 2, "deny_purge": True})
    assert found == ["deny_purge is None, must be True", "num_replicas is 1, must be at least 2"]
    assert stream.deviations({}, {"num_replicas": 1}) == []
    assert stream.deviations({"num_replicas": 0}, {}) == [], "no copy is required"


def test_the_error_of_a_weak_stream_names_each_difference() -> None:
    """And says what to do."""
    weak = stream.WeakStream(["one", "other"], "KV")
    assert weak.differences == ["one", "other"]
    assert str(weak) == (
        "stream KV is weaker than this service requires: one; other."
        " Correct the stream, or start on a broker without it."
    )
    assert str(stream.WeakStream([])).startswith("stream TOKENS is")


async def test_a_stream_is_created_verified_or_updated_exactly() -> None:
    """With `mends` it is updated only if it differs; a remaining difference is refused."""
    other = WANTED | {"max_age": 5}
    for answers, mends, asked in (
        ((MISSING, {"config": WANTED}), False, ["INFO", "CREATE"]),
        (({"config": WANTED},), True, ["INFO"]),
        (({"config": other}, {"config": WANTED}), True, ["INFO", "UPDATE"]),
    ):
        connection, made = api(*answers)
        await stream.ensure_exactly(connection, WANTED, mends=mends)
        assert made.asked == [(f"STREAM.{name}.TOKENS", {} if name == "INFO" else WANTED) for name in asked]
    for answers, mends in ((({"config": other},), False), (({"config": other}, {"config": other}), True)):
        connection, _ = api(*answers)
        with pytest.raises(stream.WeakStream, match=r"stream TOKENS is.*max_age is 5, must be 0"):
            await stream.ensure_exactly(connection, WANTED, mends=mends)
    connection, made = api({"config": THERE | {"max_age": 5}})
    with pytest.raises(stream.WeakStream, match="stream CHECKPOINTS is"):
        await stream.ensure_exactly(connection, THERE)
    assert len(made.asked) == 1, "nothing is changed without `mends`"
    for answers in ((refused(10047),), (MISSING, refused(10047))):
        connection, _ = api(*answers)
        with pytest.raises(jetstream_api.JetStreamMissing, match="refuses the stream TOKENS: what it was"):
            await stream.ensure_exactly(connection, WANTED, mends=True)


async def test_a_refusal_of_the_logs_own_streams_is_reported() -> None:
    """With the broker's description, if it has one."""
    for answer, expected in ((refused(10047), "what it was"), ({"error": {}}, "None")):
        connection, made = api(answer)
        with pytest.raises(jetstream_api.JetStreamMissing, match=f"refuses the stream TOKENS: {expected}"):
            await stream.ensure(connection, stream.Required())
        assert made.asked == [("STREAM.INFO.TOKENS", {})]


HERE = stream.configuration(stream.Required())
"""The configuration of the log's stream; below, of the checkpoints'."""
THERE = stream.configuration(stream.Required(), CHECKPOINTS)
WITHOUT_FEED = {name: value for name, value in HERE.items() if name != "republish"}


@pytest.mark.parametrize(
    ("found", "warned"),
    [
        (WITHOUT_FEED, 0),
        (WITHOUT_FEED | {"compression": "s2"}, 1),
        ({name: value for name, value in HERE.items() if name != "compression"}, 0),
        (HERE | {"compression": "s2"}, 1),
    ],
    ids=["no feed", "compressed without feed", "no word of compression", "compressed"],
)
async def test_settings_of_an_earlier_version_are_updated(
    found: dict[str, Any], warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Only those are changed; compression is reported with its cost."""
    connection, made = api({"config": found}, {"config": HERE}, {"config": THERE})
    await stream.ensure(connection, stream.Required())
    asked = [("STREAM.INFO.TOKENS", {}), ("STREAM.UPDATE.TOKENS", HERE), ("STREAM.INFO.CHECKPOINTS", {})]
    assert made.asked == asked
    warnings = [(record.getMessage(), vars(record)["stream"]) for record in caplog.records]
    assert warnings == [(stream.COMPRESSED_BEFORE, "TOKENS")] * warned


@pytest.mark.parametrize(
    ("found", "differences"),
    [
        ({"max_age": 5}, ["max_age is 5, must be 0"]),
        ({"max_age": 5, "compression": "s2"}, ["max_age is 5, must be 0"]),
    ],
    ids=["not to be mended", "to be mended, and then still"],
)
async def test_a_weak_stream_of_ours_is_not_changed(found: dict[str, Any], differences: list[str]) -> None:
    """The error names the stream."""
    for answers, name in (
        ([{"config": HERE | found}], STREAM),
        ([{"config": HERE}, {"config": THERE | found}], CHECKPOINTS),
    ):
        connection, made = api(*answers)
        with pytest.raises(stream.WeakStream, match=f"^stream {name} is") as weak:
            await stream.ensure(connection, stream.Required())
        assert weak.value.differences == differences
        assert [operation for operation, _ in made.asked] == ["STREAM.INFO.TOKENS", "STREAM.INFO.CHECKPOINTS"][
            : len(answers)
        ]


async def test_a_republish_setting_of_another_form_is_refused() -> None:
    """It would publish revocations elsewhere; the stream of checkpoints has none."""
    connection, made = api({"config": HERE | {"republish": {"src": ">", "dest": "x.>"}}})
    with pytest.raises(stream.WeakStream, match="republish is"):
        await stream.ensure(connection, stream.Required())
    connection, made = api({"config": HERE}, {"config": THERE | {"compression": "s2"}}, {"config": THERE})
    await stream.ensure(connection, stream.Required())
    assert made.asked[-1] == ("STREAM.UPDATE.CHECKPOINTS", THERE)


async def test_checkpoints_get_their_stream_only_if_the_log_has_none() -> None:
    """And only if the rest of the log's configuration is right."""
    before = WITHOUT_FEED | {"subjects": stream.BEFORE_CHECKPOINTS}
    look = ("STREAM.INFO.TOKENS", {"subjects_filter": CHECKPOINT})
    states: list[dict[str, Any]] = [{"state": {}}, {"state": {"subjects": None}}, {}]
    for state in states:
        connection, made = api({"config": before}, state, {"config": HERE}, {"config": THERE})
        await stream.ensure(connection, stream.Required())
        assert made.asked[1:3] == [look, ("STREAM.UPDATE.TOKENS", HERE)]
    connection, made = api({"config": before}, {"state": {"subjects": {CHECKPOINT: 1}}})
    with pytest.raises(stream.WeakStream) as weak:
        await stream.ensure(connection, stream.Required())
    assert weak.value.differences == ["checkpoints lie among its commits, where only a version before 0.1.0 reads them"]
    connection, made = api({"config": before | {"max_age": 5}})
    with pytest.raises(stream.WeakStream) as weak:
        await stream.ensure(connection, stream.Required())
    assert weak.value.differences == ["max_age is 5, must be 0"] and len(made.asked) == 1


async def test_all_streams_are_listed_page_by_page() -> None:
    """Until the broker has no more."""
    pages = [{"streams": [{"config": {"name": str(number)}}], "total": 3} for number in range(3)]
    connection, made = api(*pages)
    assert await stream.every_configuration(connection) == [{"name": "0"}, {"name": "1"}, {"name": "2"}]
    assert made.asked == [("STREAM.LIST", {"offset": number}) for number in range(3)]
    connection, _ = api(pages[0], {"streams": None, "total": 3})
    assert await stream.every_configuration(connection) == [{"name": "0"}]
    connection, _ = api(refused(1))
    with pytest.raises(jetstream_api.JetStreamMissing, match="does not list its streams: what it was"):
        await stream.every_configuration(connection)


async def test_what_a_stream_reports() -> None:
    """Its last sequence, creation time, clock and tenants."""
    state = {"last_seq": 9, "subjects": {"tokens.b.tenant": 1, "tokens.a.tenant": 2}}
    about = {"config": {"name": "TOKENS", "subjects": ["tokens.*.>"]}, "ts": "2026-11-20T12:00:01Z"}
    info = about | {"state": state, "created": "2026-11-20T12:00:00.000000001Z"}
    connection, made = api(info, info, info, info, info, info, about | {"state": {}})
    assert await stream.last_sequence(connection, "OTHER") == 9
    assert await stream.created(connection) == "2026-11-20T12:00:00.000000001Z"
    assert await stream.broker_time(connection) == datetime(2026, 11, 20, 12, 0, 1, tzinfo=UTC)
    assert await stream.tenants(connection) == ["a", "b"]
    assert await stream.tenants(connection) == []
    filtered = {"subjects_filter": "tokens.*.tenant"}
    assert made.asked == [
        ("STREAM.INFO.OTHER", {}),
        ("STREAM.INFO.TOKENS", {}),
        ("STREAM.INFO.TOKENS", {}),
        ("STREAM.INFO.TOKENS", {}),
        ("STREAM.INFO.TOKENS", filtered),
        ("STREAM.INFO.TOKENS", {}),
        ("STREAM.INFO.TOKENS", filtered),
    ]
    for ask in (stream.last_sequence, stream.created, stream.tenants):
        connection, _ = api(refused(1))
        with pytest.raises(jetstream_api.JetStreamMissing, match="the broker has no stream TOKENS: what it was"):
            await ask(connection)
    connection, _ = api({"error": {}})
    with pytest.raises(jetstream_api.JetStreamMissing, match="no stream OTHER: None"):
        await stream.last_sequence(connection, "OTHER")
    connection, _ = api({})
    with pytest.raises(jetstream_api.JetStreamMissing, match="reports no time of the stream TOKENS"):
        await stream.broker_time(connection)


@pytest.mark.parametrize(
    ("start", "until", "holds"),
    [
        (3, 8, True),
        (1, 3, True),
        (8, 20, True),
        (1, 2, False),
        (9, 20, False),
        (4, 6, False),
        (4, 7, True),
        (5, 5, False),
    ],
)
async def test_whether_a_range_has_any_message(start: int, until: int, holds: bool) -> None:
    """Both ends are included, and deleted messages are not."""
    connection, made = api({"state": {"first_seq": 3, "last_seq": 8, "deleted": [4, 5, 6]}})
    assert await stream.holds_any(connection, STREAM, start, until) is holds
    assert made.asked == [("STREAM.INFO.TOKENS", {"deleted_details": True})]


async def test_a_range_of_a_stream_without_deletions() -> None:
    """The reply has no list of deletions then; a missing stream is an error."""
    connection, _ = api({"state": {"first_seq": 1, "last_seq": 1}}, refused(1))
    assert await stream.holds_any(connection, STREAM, 1, 1)
    with pytest.raises(jetstream_api.JetStreamMissing, match="has no stream TOKENS: what it was"):
        await stream.holds_any(connection, STREAM, 1, 1)


async def test_a_cluster_has_time_to_elect_its_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it reports that; a broker without JetStream, and other refusals, fail at once."""
    for waits in (refused(10005), refused(10008), TimeoutError):
        connection, made = api(waits, {"config": WANTED})
        await stream.ensure_exactly(connection, WANTED)
        assert len(made.asked) == 2
    monkeypatch.setattr(jetstream_api, "ELECTION_SECONDS", 0.0)
    for waits, expected in ((refused(10008), "has no leader: what it was"), (TimeoutError, "does not answer")):
        connection, made = api(waits, waits)
        with pytest.raises(jetstream_api.NoLeader, match=expected):
            await stream.ensure_exactly(connection, WANTED)
    connection, _ = api({"error": {"err_code": 10008}})
    with pytest.raises(jetstream_api.NoLeader, match="no leader: None"):
        await stream.last_sequence(connection)
    connection, made = api(NoRespondersError)
    with pytest.raises(jetstream_api.JetStreamMissing, match="has no JetStream; start nats-server with -js"):
        await stream.ensure_exactly(connection, WANTED)
    assert len(made.asked) == 1


async def test_work_without_a_leader_is_retried() -> None:
    """Also for the errors of nats-py's own calls."""
    silences = TimeoutError, builtins.TimeoutError  # nats-py's, and the one `asyncio.timeout` raises
    tried: list[type[Exception] | None] = [ServiceUnavailableError, *silences, jetstream_api.NoLeader, None]

    async def work() -> None:
        if (failure := tried.pop(0)) is not None:
            raise failure

    await jetstream_api.with_a_leader(work)
    assert not tried
