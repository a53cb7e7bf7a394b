"""The check of one commit after another, and its reasons."""

import re
import sys

import pytest
from msgspec.structs import replace

from events.aggregates.commit import digest
from events.aggregates.family_commit import codec
from events.aggregates.kinds import FAMILY
from events.verification.chain import BadCommit, BrokenChain, LastCommit, WrongPredecessor, check
from tests.projections.logs import LogMaker

MADE = LogMaker()
for act in (MADE.open, MADE.rotate, MADE.rotate):
    act("f")
PLACE = "tokens.acme.family.f"
FIRST, SECOND = MADE.log[0].body, MADE.log[1].body
STATE = codec.decode(FIRST).state
BEFORE = LastCommit(FAMILY, 1, digest(FIRST), STATE, codec.decode(FIRST).at)


def why(body: bytes, before: LastCommit | None = None, place: str = PLACE, last_part: str = "live") -> str:
    """The reason for which this commit is bad."""
    with pytest.raises(BadCommit) as bad:
        check(FAMILY, place, body, before, last_part)
    return str(bad.value)


def test_the_check_returns_state_and_time() -> None:
    for body, before in ((FIRST, None), (SECOND, BEFORE)):
        commit = codec.decode(body)
        assert check(FAMILY, PLACE, body, before, "live") == (commit.state, commit.at)


def test_why_a_first_commit_is_bad() -> None:
    """Its form, its place, its events and its state."""
    assert why(b"{}").startswith("unreadable: Object missing required field")
    assert why(b"\xff").startswith("unreadable: ")
    assert why(re.sub(rb'"events":\[.*?\}\]', b'"events":[]', FIRST)) == "it holds no events"
    assert why(FIRST.replace(b'"v":1', b'"v":7')) == "commit version 7, this program reads version 1"
    assert why(FIRST, place=f"{PLACE}x") == f"it is of {PLACE}, and lies on {PLACE}x"
    assert why(FIRST, last_part="revoked") == "its events do not belong on …revoked"
    assert why(FIRST.replace(b'"generation":0', b'"generation":3', 1)).startswith("its events cannot follow: ")
    other_state = "its state is not what its events make of the state before"
    state = FIRST.index(b'"state":') + len(b'"state":')
    assert why(FIRST[:state] + FIRST[state:].replace(b'"issue"', b'"other"')) == other_state
    for written in (b"null", b"7", b'{"client_id":"web"}', b'"' + b"\\ud800" + b'"', b"[" * 3000 + b"]" * 3000):
        assert why(FIRST[:state] + written + FIRST[FIRST.index(b',"aggregate"') :]).startswith(
            (other_state, "unreadable: ")
        )


def test_a_wrong_predecessor_is_named() -> None:
    """With the sequence of the aggregate's last commit."""
    with pytest.raises(WrongPredecessor) as astray:
        check(FAMILY, PLACE, MADE.log[2].body, BEFORE, "live")
    assert astray.value.followed == 2
    assert str(astray.value) == "it follows sequence 2, the aggregate's last commit is at 1"
    assert why(SECOND) == "it follows sequence 1, the aggregate's last commit is at 0"


def test_a_wrong_digest_accuses_the_commit_before() -> None:
    """The state and time are returned nevertheless; an altered time is that commit's fault too."""
    commit = codec.decode(SECOND)
    for time in (BEFORE.at, commit.at.replace(year=2030), None):
        with pytest.raises(BrokenChain) as broken:
            check(FAMILY, PLACE, SECOND, replace(BEFORE, digest="0" * 64, at=time), "live")
        assert (broken.value.accused, broken.value.checked) == (1, (commit.state, commit.at))


def test_times_may_not_decrease() -> None:
    """If both are known."""
    commit = codec.decode(SECOND)
    later = commit.at.replace(year=2030)
    assert why(SECOND, replace(BEFORE, at=later)) == f"it is of {commit.at}, the commit before it of {later}"
    assert check(FAMILY, PLACE, SECOND, replace(BEFORE, at=None), "live")[0] == commit.state


def test_a_state_encoded_differently_may_be_equal() -> None:
    """For example with spaces, as another version might write it; repeated keys are found there too."""
    spaced = SECOND.replace(b'"state":{', b'"state": {')
    assert check(FAMILY, PLACE, spaced, BEFORE, "live")[0] == codec.decode(SECOND).state
    doubled = SECOND.replace(b'"v":1', b'"v":1,"v":1')
    assert why(doubled, BEFORE) == "it holds a JSON key twice, and readers differ on which one counts"


def test_a_commit_that_only_one_reader_accepts_is_bad() -> None:
    """The codec ignores an unknown field that Python's JSON refuses: a very long number, or deep nesting."""
    assert why(FIRST[:-1] + b',"x":' + b"1" * 5000 + b"}").startswith("unreadable: Exceeds the limit")
    depths = range(1, sys.getrecursionlimit() + 10)
    verdicts = {_verdict(FIRST[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}") for depth in depths}
    assert "good" in verdicts <= {"good", "unreadable"}


def _verdict(body: bytes) -> str:
    try:
        check(FAMILY, PLACE, body, None, "live")
    except BadCommit as bad:
        return str(bad).partition(":")[0]
    return "good"
