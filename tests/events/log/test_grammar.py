"""Commits and foreign messages (ADR 0024)."""

import json
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from events.aggregates.commit import Commit, UnreadableCommit, type_of
from events.log import grammar
from events.log.grammar import Foreign, kind_of, read_commit
from events.log.stored_message import StoredMessage
from tests.events.aggregates.test_golden import GOLDEN
from tests.projections.logs import LogMaker, eventful_log

LOG = eventful_log()
ROTATION = next(stored for stored in LOG if b"TokenRotated" in stored.body)
FIRST = next(stored for stored in LOG if b"GrantAuthorized" in stored.body)
BLOCKED = next(stored for stored in LOG if b"SubjectBlocked" in stored.body)


def with_fields(stored: StoredMessage, **fields: Any) -> StoredMessage:
    """The commit with other fields; those given as "gone" are removed."""
    body = msgspec.json.decode(stored.body) | fields
    return replace(stored, body=msgspec.json.encode({name: field for name, field in body.items() if field != "gone"}))


def test_every_event_that_was_ever_written_is_known() -> None:
    """Every reader knows every kind of aggregate and all of its events."""
    tags = {type_of(event) for event in grammar.EVENTS}
    golden = {json.loads(file.read_bytes()).get("type") for file in GOLDEN.glob("*.json")} - {None}
    assert golden == tags


def test_our_commits_of_every_kind_are_commits() -> None:
    assert all(isinstance(read_commit(stored), Commit) for stored in LOG)


@pytest.mark.parametrize(
    "subject",
    [
        "tokens.public.jwks",
        "tokens.acme",
        "tokens.acme.tenant.more",
        "tokens.acme.tenants",
        "tokens.ACME.tenant",
        "tokens.acme.client.a b",
        "tokens.acme.client.a.live",
        "tokens.acme.family.f1",
        "tokens.acme.family.f1.dead",
        "tokens.acme.family.f-1.live",
        "tokens.acme.subject.alice",
        "tokens.acme.key.a\nb",
        "audit.acme.tenant",
    ],
)
def test_a_subject_without_an_aggregate_has_no_commit(subject: str) -> None:
    """Its body does not matter; neither does a name that the contract forbids."""
    assert kind_of(subject) is None
    assert isinstance(read_commit(replace(ROTATION, subject=subject)), Foreign)


@pytest.mark.parametrize("missing", ["v", "id", "at", "prev", "prev_seq", "events", "state"])
def test_a_body_without_one_of_its_parts_is_foreign(missing: str) -> None:
    """Also without parts that some readers do not need, for all readers share one decision."""
    assert isinstance(read_commit(with_fields(ROTATION, **{missing: "gone"})), Foreign)


def test_only_a_familys_commit_may_have_no_actor() -> None:
    """It is the family's client then."""
    found = read_commit(with_fields(ROTATION, actor="gone"))
    assert not isinstance(found, Foreign) and found.actor == f"client:{found.state.client_id}"
    assert isinstance(read_commit(with_fields(BLOCKED, actor="gone")), Foreign)


@pytest.mark.parametrize(
    "foreign",
    [
        replace(ROTATION, body=b"{}"),
        replace(ROTATION, body=b"junk"),
        replace(ROTATION, body=b""),
        replace(ROTATION, body=b"\xff"),
        replace(ROTATION, body=b"[" * 100_000),
        with_fields(ROTATION, events=[]),
        with_fields(ROTATION, events=["TokenRotated"]),
        with_fields(ROTATION, events=[{"type": "TokenRotated", "from_generation": "none"}]),
        with_fields(ROTATION, state={}),
        with_fields(ROTATION, v=0),
        with_fields(ROTATION, prev_seq=ROTATION.seq),
        with_fields(ROTATION, prev=None),
        with_fields(ROTATION, aggregate="tokens.acme.family.another"),
        replace(ROTATION, subject=ROTATION.subject.replace("live", "revoked")),
        replace(ROTATION, subject="tokens.acme.tenant"),
        replace(BLOCKED, subject=f"tokens.acme.subject.{'0' * 32}"),
        replace(FIRST, subject="tokens.acme.family.another.live"),
    ],
    ids=str,
)
def test_a_body_outside_the_grammar_is_foreign(foreign: StoredMessage) -> None:
    """So is a body of another aggregate."""
    found = read_commit(foreign)
    assert isinstance(found, Foreign) and found.seq == foreign.seq and found.reason


@pytest.mark.parametrize(
    "later",
    [
        with_fields(ROTATION, v=2),
        with_fields(ROTATION, v=2, events=[{"type": "TokenBequeathed"}], state={"heirs": 2}),
        with_fields(ROTATION, events=[{"type": "TokenBequeathed", "to": "bob"}]),
    ],
)
def test_a_commit_of_a_later_version_is_not_foreign(later: StoredMessage) -> None:
    """DESIGN §5: a reader that skipped it would decide on a guess."""
    with pytest.raises(UnreadableCommit, match="version"):
        read_commit(later)


def test_a_foreign_messages_content_is_not_repeated() -> None:
    """It may be a misplaced token, or contain terminal escapes."""
    maker = LogMaker()
    maker.open("f")
    body = maker.log[0].body.replace(b'"kind":"refresh"', b'"kind":"hrt_secret"')
    found = read_commit(replace(maker.log[0], body=body, subject=f"tokens.acme.family.f.live{'x' * 300}"))
    assert isinstance(found, Foreign) and len(found.subject) == 100
    found = read_commit(replace(maker.log[0], body=body))
    assert isinstance(found, Foreign) and "hrt_secret" not in found.reason
    found = read_commit(replace(maker.log[0], subject="tokens.\x1b[2J.tenant"))
    assert isinstance(found, Foreign) and found.subject.isprintable()
