"""Other streams of the broker: one that reaches the service's subjects prevents its start."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.bus.connect import connect
from events.bus.connection import Connection
from events.jetstream.other_streams import OtherStreams, overlap, reaches, refuse_other_streams
from events.log import stream
from tests.broker import Broker

TAPS = [
    {"subjects": ["oauth.*.client.*.token"]},
    {"subjects": ["x", ">"]},
    {"subjects": ["*.acme.public.jwks"]},
    {"subjects": ["_INBOX.acme.>"]},
    {"subjects": ["x"], "republish": {"src": "x", "dest": "revoked.a.b"}},
    {"subjects": ["x.*.*"], "republish": {"src": "x.*.*", "dest": "{{wildcard(1)}}.acme.{{wildcard(2)}}"}},
    {"subjects": ["x.*"], "republish": {"src": "x.*", "dest": "$1.family"}},
    {"subjects": ["x"], "subject_transform": {"src": "x", "dest": "tokens.a.tenant"}},
]
HARMLESS = [
    {"subjects": ["orders.>"], "republish": {"src": "orders.>", "dest": "copies.>"}},
    {"subjects": ["oauth"]},
    {"mirror": {"name": "TOKENS"}},
]


@pytest.mark.parametrize("config", TAPS)
def test_a_stream_that_stores_or_writes_our_subjects_is_found(config: dict[str, object]) -> None:
    """It would store refresh tokens, or publish false revocations."""
    assert reaches(config)


@pytest.mark.parametrize("config", HARMLESS)
def test_other_streams_may_stay(config: dict[str, object]) -> None:
    """The broker may have streams of its own."""
    assert reaches(config) == []


async def test_the_service_does_not_start_beside_a_wiretap(connection: Connection) -> None:
    """The error names the stream and its subjects."""
    await refuse_other_streams(connection, stream.SUBJECTS)
    tap = {"name": "WIRETAP", "subjects": ["oauth.*.client.*.token"], "storage": "memory"}
    await connection.request("$JS.API.STREAM.CREATE.WIRETAP", msgspec.json.encode(tap))
    with pytest.raises(OtherStreams, match=r"WIRETAP takes oauth\.\*\.client\.\*\.token"):
        await refuse_other_streams(connection, stream.SUBJECTS)


@pytest.mark.parametrize(
    "setting",
    [
        {"republish": {"src": ">", "dest": "elsewhere.>"}},
        {"sources": [{"name": "WIRETAP"}]},
        {"subject_transform": {"src": "tokens.checkpoint", "dest": "tokens.other"}},
        {"allow_msg_ttl": True},
        {"max_msgs": 1000},
        {"no_ack": True},
        {"max_msg_size": 10},
    ],
)
async def test_our_own_streams_have_exactly_our_configuration(setting: dict[str, object], nats_server: Broker) -> None:
    """An additional setting is refused like a missing one."""
    connection = await connect(nats_server.url, "test")
    config = stream.configuration(stream.Required(), "CHECKPOINTS") | setting
    answer = await connection.request("$JS.API.STREAM.CREATE.CHECKPOINTS", msgspec.json.encode(config))
    assert b'"error"' not in answer.data
    with pytest.raises(stream.WeakStream, match=next(iter(setting))):
        await stream.ensure(connection, stream.Required())
    await connection.close()


words = st.sampled_from(["a", "b"])
subjects = st.lists(words, min_size=1, max_size=4)
patterns = st.tuples(st.lists(st.sampled_from(["a", "b", "*"]), max_size=3), st.sampled_from([["a"], ["*"], [">"]]))


@given(subjects, patterns, patterns)
def test_patterns_that_match_one_subject_overlap(
    subject: list[str], one: tuple[list[str], list[str]], other: tuple[list[str], list[str]]
) -> None:
    """NATS' rule for one subject decides."""
    first, second = [*one[0], *one[1]], [*other[0], *other[1]]
    if _matches(first, subject) and _matches(second, subject):
        assert overlap(".".join(first), ".".join(second))


def _matches(pattern: list[str], subject: list[str]) -> bool:
    if pattern[-1] == ">":
        return len(subject) >= len(pattern) and _matches(pattern[:-1] + subject[len(pattern) - 1 :], subject)
    return len(pattern) == len(subject) and all(a in ("*", b) for a, b in zip(pattern, subject, strict=True))
