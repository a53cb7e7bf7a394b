"""Verification of any log: the verdict does not depend on memory, and foreign is what the grammar calls foreign."""

import re
from collections.abc import Callable
from copy import deepcopy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from events.aggregates.commit import UnreadableCommit
from events.log.grammar import Foreign, read_commit
from events.log.stored_message import StoredMessage
from events.verification.verifier import Verifier
from tests.events.verification.test_verifier import verify
from tests.projections.logs import LogMaker

PLACES = [f"tokens.acme.family.{name}.{last}" for name in "fg" for last in ("live", "revoked", "junk")]
PLACES += ["tokens.acme.client.web", "tokens.acme.client.web.live", "tokens.acme.family.f", "tokens.public.jwks"]
SUBSTITUTES = [
    (rb'"prev":("[\w-]+"|null)', b'"prev":"' + b"0" * 64 + b'"'),
    (rb'"prev":("[\w-]+"|null)', b'"prev":null'),
    (rb'"prev_seq":\d+', b'"prev_seq":0'),
    (rb'"prev_seq":\d+', b'"prev_seq":2'),
    (rb'"at":"[^"]+"', b'"at":"2027-01-01T00:00:00Z"'),
    (rb'"at":"[^"]+"', b'"at":"1970-01-01T00:00:00Z"'),
    (rb'"at":"[^"]+"', b'"at":"1969-12-31T00:00:00Z"'),
    (rb'"at":"[^"]+"', b'"at":"0001-01-01T00:00:00+14:00"'),
    (rb'"at":"[^"]+"', b'"at":"9999-12-31T23:59:59-14:00"'),
    (rb'"v":1', b'"v":7'),
    (rb'"v":1', b'"v":1,"v":1'),
    (rb'"read"', b'"write"'),
    (rb"^.*$", b"{}"),
]
"""Changes of a commit that anybody with the right to append can make."""


@st.composite
def logs_with_strangers(draw: st.DrawFn) -> list[StoredMessage]:
    """Logs of two families and a client, with messages that somebody made from the next commit."""
    made = LogMaker()
    for name in "fg":
        made.open(name)
    made.configure_client("web")
    acts: list[Callable[[LogMaker], None]] = [
        lambda made: made.rotate("f"),
        lambda made: made.rotate("g"),
        lambda made: made.configure_client("web"),
    ]
    for act in draw(st.lists(st.sampled_from(acts), min_size=1, max_size=8)):
        if draw(st.booleans()):
            ahead = deepcopy(made)
            act(ahead)
            stored = ahead.log[-1]
            for old, new in draw(st.lists(st.sampled_from(SUBSTITUTES), max_size=2)):
                stored = replace(stored, body=re.sub(old, new, stored.body))
            made.log.append(replace(stored, subject=draw(st.sampled_from([stored.subject, *PLACES]))))
        else:
            act(made)
    return made.log


@settings(max_examples=200, deadline=None)
@given(logs_with_strangers())
def test_the_verdict_does_not_depend_on_memory(log: list[StoredMessage]) -> None:
    """Of the number of aggregates whose last state is kept decoded, which may be none."""
    verdicts = []
    for recent in (0, 1, 10_000):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("events.verification.verifier.MAX_RECENT", recent)
            verifier = Verifier()
            for stored in log:
                verifier.check(stored)
            verdicts.append(msgspec.structs.asdict(verifier.tally))
    assert verdicts[0] == verdicts[1] == verdicts[2]


@settings(max_examples=200, deadline=None)
@given(logs_with_strangers())
def test_messages_that_the_grammar_calls_foreign_are_skipped(log: list[StoredMessage]) -> None:
    """By verification as by every reader, except for those that a later commit follows, which were altered."""
    report = verify(log)
    stepped_over = {found.seq for found in report.foreign}
    for stored in log:
        try:
            is_foreign = isinstance(read_commit(stored), Foreign)
        except UnreadableCommit:
            is_foreign = False
        assert stored.seq not in stepped_over or is_foreign
        if is_foreign and report.fault is None:
            assert stored.seq in stepped_over
