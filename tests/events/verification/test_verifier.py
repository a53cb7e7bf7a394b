"""Verification finds alterations of a log, and where they are."""

import inspect
import re
from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import get_type_hints

import msgspec
import pytest
from msgspec.structs import replace

from events.aggregates import client, family_commit
from events.aggregates.commit import VERSION, Commit, digest
from events.aggregates.kinds import FAMILY, KINDS, Kind
from events.log.grammar import kind_of
from events.log.stored_message import StoredMessage
from events.verification.chain import LastCommit, decode_last
from events.verification.verifier import Fault, Report, Verifier
from tests.projections.logs import START, LogMaker, eventful_log

LOG = eventful_log()
TARGET = next(stored.seq for stored in LOG if ".family.f2." in stored.subject and b"TokenRotated" in stored.body)
"""A rotation with commits of its family before and after it."""


def verify(log: list[StoredMessage]) -> Report:
    """The report on a whole log."""
    verifier = Verifier()
    for stored in log:
        verifier.check(stored)
    return verifier.report()


def copied(log: list[StoredMessage]) -> list[StoredMessage]:
    """The commits as in a copy without gaps."""
    return [replace(stored, seq=seq) for seq, stored in enumerate(log, 1)]


def altered(old: bytes, new: bytes, seq: int = TARGET) -> list[StoredMessage]:
    """The log with one commit altered."""
    stored = LOG[seq - 1]
    assert old in stored.body
    return [*LOG[: seq - 1], replace(stored, body=stored.body.replace(old, new)), *LOG[seq:]]


def test_an_honest_log_is_whole() -> None:
    """The report counts the checked commits."""
    assert verify(LOG) == Report(len(LOG), len(LOG), 15, 12, 0, None)
    assert verify([]) == Report(0, 0, 0, 0, 0, None)


def test_any_flipped_byte_is_found() -> None:
    """For every byte of a commit with a successor, the first bad sequence is that commit's.

    Except in `prev`: then the commit and the one before accuse each other, and both are named.
    """
    body = LOG[TARGET - 1].body
    before = [stored.seq for stored in LOG[: TARGET - 1] if ".family.f2." in stored.subject][-1]
    for place in range(len(body)):
        flipped = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        if not flipped[place : place + 1].isspace():
            report = verify([*LOG[: TARGET - 1], replace(LOG[TARGET - 1], body=flipped), *LOG[TARGET:]])
            assert report.fault is not None, (place, flipped)
            assert report.fault.seq in (TARGET, before), (report.fault, flipped)


@pytest.mark.parametrize(
    ("damage", "seq"),
    [
        (lambda: altered(b'"at":"2026', b'"actor":"client:wbe","at":"2026'), TARGET),
        (lambda: altered(b'"generation":0', b'"generation":1'), TARGET),
        (lambda: altered(b'"opened_at":"2026', b'"opened_at":"2025'), TARGET),
        (lambda: altered(b'"sub":"user2"', b'"sub":"user1"'), TARGET),
        (lambda: altered(b'"prev":"', b'"prev":"0'), TARGET),
        (lambda: altered(b'"v":1', b'"v":7'), TARGET),
        (
            lambda: [replace(s, subject=s.subject.replace("live", "revoked")) if s.seq == TARGET else s for s in LOG],
            TARGET,
        ),
        (lambda: [replace(s, subject="tokens.acme.recipe.x") if s.seq == TARGET else s for s in LOG], TARGET),
        (lambda: [*LOG[: TARGET - 1], *LOG[TARGET:]], TARGET),
    ],
    ids=["actor", "rotation", "state", "state's sub", "prev", "version", "wrong subject", "no aggregate", "gap"],
)
def test_the_bad_commit_is_named(damage: Callable[[], list[StoredMessage]], seq: int) -> None:
    """With its sequence and a reason."""
    fault = verify(damage()).fault
    assert fault is not None
    assert fault.why
    assert fault.seq == seq or fault.accuser == seq


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: [*log[: TARGET - 1], *log[TARGET:]],
        lambda log: [*log[:TARGET], *log[TARGET - 1 :]],
        lambda log: [*log[: TARGET - 1], log[TARGET], log[TARGET - 1], *log[TARGET + 1 :]],
        lambda log: [*log[: TARGET - 1], log[0], *log[TARGET:]],
    ],
    ids=["missing", "repeated", "reordered", "replaced by another"],
)
def test_a_copy_that_is_not_the_log_is_found(damage: Callable[[list[StoredMessage]], list[StoredMessage]]) -> None:
    """Although the copy's own sequences have no gap."""
    fault = verify(copied(damage(LOG))).fault
    assert fault is not None
    assert fault.seq >= TARGET - 1


@pytest.mark.parametrize(
    ("one", "other"),
    [(".acme.family.f2.", ".acme.family.f3."), (".acme.family.f2.", ".initech.family.f2.")],
    ids=["two families of a tenant", "another tenant"],
)
def test_a_history_under_another_name_is_found(one: str, other: str) -> None:
    """No body or digest changes, and neither does the tree over them, but the first commit names its aggregate."""
    names = {one: other, other: one}

    def renamed(stored: StoredMessage) -> StoredMessage:
        found = next((name for name in names if name in stored.subject), None)
        return stored if found is None else replace(stored, subject=stored.subject.replace(found, names[found]))

    fault = verify([renamed(stored) for stored in LOG]).fault
    assert fault is not None and fault.why.endswith("another body than this: it is of another aggregate")
    first = min(stored.seq for stored in LOG if one in stored.subject)
    assert fault.seq in (first, min((stored.seq for stored in LOG if other in stored.subject), default=first))


def test_a_log_from_before_aggregates_were_named_is_whole() -> None:
    """First commits of older versions do not name their aggregate."""
    older = LogMaker(named=False)
    older.open("f")
    older.rotate("f")
    assert b'"aggregate"' not in older.log[0].body
    assert verify(older.log).fault is None


def test_a_commit_of_a_version_that_dropped_a_field_is_found() -> None:
    """The field is lost for all later commits, so versions must not write side by side (docs/operations.md)."""
    at, place = datetime(2026, 11, 20, 20, 31, tzinfo=UTC), "tokens.acme.client.web"
    disabled = client.ClientDisabled(None, at)
    state = client.evolve(None, disabled)
    first = client.codec.encode(Commit(VERSION, "1", at, "operator", None, 0, (disabled,), state, place))
    enabled, older = client.ClientEnabled(), replace(client.evolve(state, client.ClientEnabled()), void_until=None)
    second = client.codec.encode(Commit(VERSION, "2", at, "operator", digest(first), 1, (enabled,), older))
    fault = verify([StoredMessage(1, place, first), StoredMessage(2, place, second)]).fault
    assert fault == Fault(2, "its state is not what its events make of the state before")


def test_the_middle_one_of_a_familys_three_commits_is_named() -> None:
    """Also if its reference to the first commit was altered: that one is whole and is not accused."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    made.rotate("f")
    first, middle, last = made.log
    for old, new in (
        (b'"at":"2026', b'"actor":"client:wbe","at":"2026'),
        (digest(first.body).encode(), digest(b"another").encode()),
        (b'"prev_seq":1', b'"prev_seq":0'),
        (b'"v":1', b'"v":7'),
    ):
        assert old in middle.body
        fault = verify([first, replace(middle, body=middle.body.replace(old, new)), last]).fault
        assert fault is not None and fault.seq == 2, (old, fault)
    unchained = replace(middle, body=middle.body.replace(digest(first.body).encode(), b"0" * 64))
    why = "altered: commit 3 was chained to another body than this"
    assert verify([first, unchained, last]).fault == Fault(2, why, 3)


def test_a_fork_of_a_family_is_found() -> None:
    """Two commits follow the same one, which the conditional append prevents."""
    one, other = LogMaker(), LogMaker()
    for made in (one, other):
        made.open("f")
    one.rotate("f")
    other.rotate("f")
    forked = copied([*one.log, other.log[-1]])
    assert verify(forked).fault == Fault(3, "it follows sequence 1, the aggregate's last commit is at 2")


def test_every_kind_of_aggregate_can_be_checked() -> None:
    """Each function of `events.aggregates.aggregate_names` that returns an aggregate has a kind."""
    from events.aggregates import aggregate_names

    functions = inspect.getmembers(aggregate_names, inspect.isfunction)
    made = {name for name, function in functions if get_type_hints(function).get("return") is aggregate_names.Aggregate}
    assert made - {"single"} == KINDS.keys()


def test_the_memory_for_an_aggregate_is_small() -> None:
    """It is one byte string, for a million commits must fit."""
    remembered: dict[str, bytes] = defaultdict(bytes)
    verifier = Verifier(remembered)
    for stored in LOG:
        verifier.check(stored)
    verifier.remember()
    assert len(remembered) == verifier.report().aggregates
    assert max(map(len, remembered.values())) < 700
    assert msgspec.json.decode(msgspec.json.encode(verifier.report()), type=Report) == verifier.report()


def test_the_number_of_recorded_faults_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of aggregates with faults; the first bad commit is named nevertheless."""
    monkeypatch.setattr("events.verification.verifier.MAX_KEPT", 3)
    garbage = [replace(stored, body=stored.body.replace(b'"v":1', b'"v":7')) for stored in LOG]
    report = verify(garbage)
    assert (report.faulty, report.fault and report.fault.seq) == (3, 1)
    report = verify([replace(stored, body=b"garbage") for stored in LOG])
    assert (report.faulty, report.foreign_count, [found.seq for found in report.foreign]) == (0, len(LOG), [1, 2, 3])
    own = [stored for stored in LOG if stored.subject == LOG[0].subject][:2]
    accused = [replace(own[0], body=own[0].body + b" "), *garbage[1:]]
    accused[own[1].seq - 1] = own[1]  # only now is the first commit known to be bad
    fault = verify(accused).fault
    assert fault is not None
    assert (fault.seq, fault.accuser) == (1, own[1].seq)


def foreign_after(*places: tuple[int, str, bytes]) -> list[StoredMessage]:
    """A log with foreign messages, each (after how many commits, subject, body); later commits refer past them."""
    made = LogMaker()
    made.open("f")
    for number in range(6):
        for after, subject, body in places:
            if after == number:
                made.log.append(StoredMessage(len(made.log) + 1, subject, body))
        made.rotate("f")
    return made.log


def test_foreign_messages_are_named_and_the_chain_passes_them() -> None:
    """Wherever they are, the commits are whole, and each foreign message has its sequence and reason."""
    on_top, nowhere = "tokens.acme.family.f.live", "tokens.public.jwks"
    log = foreign_after((1, on_top, b"{}"), (1, nowhere, b"{}"), (4, "tokens.acme.tenant", b"junk"))
    report = verify(log)
    assert (report.fault, report.families, report.aggregates) == (None, 1, 1)
    assert (report.messages, report.commits) == (10, 7)
    assert [(found.seq, found.subject) for found in report.foreign] == [
        (3, on_top),
        (4, nowhere),
        (8, "tokens.acme.tenant"),
    ]
    assert report.foreign_count == 3


def test_a_commit_made_unreadable_is_altered_and_not_foreign() -> None:
    """A successor shows it; without one it cannot be known."""
    made = LogMaker()
    made.open("f")
    for _ in range(3):
        made.rotate("f")
    for seq in (1, 2, 3):
        broken = [replace(stored, body=b"{}") if stored.seq == seq else stored for stored in made.log]
        fault = verify(broken).fault
        assert fault is not None and (fault.seq, fault.accuser) == (seq, seq + 1)
    report = verify([*made.log[:3], replace(made.log[3], body=b"{}")])
    assert report.fault is None and [found.seq for found in report.foreign] == [4]


def test_commits_of_this_version_are_encoded_canonically() -> None:
    """Decoding and encoding gives the same bytes, which makes the check fast."""
    seen = set()
    for stored in LOG:
        kind = kind_of(stored.subject)
        assert kind is not None
        commit = kind.decode_unfolded(stored.body)
        assert msgspec.json.encode(commit) == stored.body
        state = bytes(commit.state)
        assert msgspec.json.encode(kind.decode_state(state)) == state
        seen.add(kind.name)
    assert seen == {"family", "client", "subject"}


def test_a_kind_decodes_commits_without_their_state() -> None:
    """Each field has its name and type, as in the whole codec; the aggregate's name may be missing."""
    for stored in LOG:
        known = kind_of(stored.subject)
        assert known is not None
        kind = Kind(known.name, known.parts, known.id, known.codec, known.fold)
        assert vars(kind).keys() == vars(known).keys()
        assert (kind.name, kind.parts, kind.id) == (known.name, known.parts, known.id)
        assert (kind.codec, kind.fold) == (known.codec, known.fold)
        whole, commit = kind.codec.decode(stored.body), kind.decode_unfolded(stored.body)
        for name in ("v", "id", "at", "prev", "prev_seq", "aggregate"):
            assert getattr(commit, name) == getattr(whole, name)
        assert commit.actor in (whole.actor, msgspec.UNSET)
        assert kind.codec.whole_events(commit, whole.state) == whole.events
        written = kind.codec.without_events(whole.state, whole.events)
        assert kind.decode_state(commit.state) == written
        assert msgspec.json.encode(commit) == stored.body
        for old, new in ((b'"at":"', b'"at":"x'), (b'"v":1', b'"v":"x"'), (b'"at":"', b'"actor":1,"at":"')):
            with pytest.raises(msgspec.ValidationError):
                kind.decode_unfolded(stored.body.replace(old, new, 1))


@pytest.mark.parametrize(
    "at",
    [
        None,
        START,
        START + timedelta(microseconds=1),
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=timezone(timedelta(hours=-14))),
    ],
    ids=str,
)
def test_the_memory_of_an_aggregate_round_trips(at: datetime | None) -> None:
    """Sequence, digest, state and time of its last commit, with any clock; the state may be unknown."""
    made = LogMaker()
    made.open("f")
    state = family_commit.codec.decode(made.log[0].body).state
    for known in (state, None):
        last = LastCommit(FAMILY, 2**40, digest(made.log[0].body), known, at)
        assert decode_last(FAMILY, last.encoded()) == last
    assert decode_last(FAMILY, b"") is None


def two_families(length: int) -> list[StoredMessage]:
    """`f` at the odd sequences and `g` at the even ones, each with `length` commits."""
    made = LogMaker()
    for number in range(length):
        for name in ("f", "g"):
            if number:
                made.rotate(name)
            else:
                made.open(name)
    return made.log


def test_commits_that_looked_foreign_are_counted_as_faults() -> None:
    """A real foreign message stays one."""
    log = [*two_families(4), StoredMessage(9, "tokens.public.jwks", b"{}")]
    for seq in (3, 4):
        log[seq - 1] = replace(log[seq - 1], body=b"{}")
    report = verify(log)
    assert (report.faulty, report.foreign_count, [found.seq for found in report.foreign]) == (2, 1, [9])
    assert report.fault is not None and (report.fault.seq, report.fault.accuser) == (3, 5)
    assert report.fault.why == (
        "altered: commit 5 was chained to another body than this: " + verify([replace(log[2], seq=1)]).foreign[0].reason
    )


def test_the_middle_one_of_three_commits_is_named() -> None:
    """It accuses the first, and the third accuses it, so the first is good; for two aggregates at once."""
    made = LogMaker()
    for _ in range(3):
        for name in ("web", "app"):
            made.configure_client(name)
    log = made.log
    for seq in (3, 4):
        prev = digest(log[seq - 3].body).encode()
        log[seq - 1] = replace(log[seq - 1], body=log[seq - 1].body.replace(prev, b"0" * 64))
    assert verify(log[:4]).fault == Fault(1, "altered: commit 3 was chained to another body than this", 3)
    report = verify(log)
    assert report.faulty == 2
    assert report.fault == Fault(3, "altered: commit 5 was chained to another body than this", 5)


def test_the_first_of_a_familys_faults_is_named() -> None:
    """Later ones follow from it, or come after it."""
    log = two_families(5)
    for seq in (1, 7):
        log[seq - 1] = replace(
            log[seq - 1], body=log[seq - 1].body.replace(b'"at":"', b'"actor":"client:wbe","at":"', 1)
        )
    report = verify(log)
    assert (report.faulty, report.fault) == (1, Fault(1, "altered: commit 3 was chained to another body than this", 3))


def test_a_repeated_key_is_found_at_any_depth() -> None:
    """RFC 8259 §4."""
    body = LOG[TARGET - 1].body
    assert body.count(b'"generation":0') == 1
    doubled = body.replace(b'"generation":0', b'"generation":7,"generation":0')
    fault = verify([*LOG[: TARGET - 1], replace(LOG[TARGET - 1], body=doubled)]).fault
    assert fault == Fault(TARGET, "it holds a JSON key twice, and readers differ on which one counts")


def test_a_commit_with_an_invalid_state_is_foreign() -> None:
    """If it is the last one of its aggregate."""
    body = LOG[TARGET - 1].body
    start = body.index(b'"state":') + len(b'"state":')
    for state in (b"7", b"[]", b'{"generation":"x"}'):
        report = verify([*LOG[: TARGET - 1], replace(LOG[TARGET - 1], body=body[:start] + state + b"}")])
        assert [found.seq for found in report.foreign] == [TARGET]


@pytest.mark.parametrize("where", ["honest", "altered", "foreign", "gap"])
def test_remembering_between_any_two_messages_changes_nothing(where: str) -> None:
    """A verification may be interrupted anywhere, also after faults."""
    bad = replace(LOG[TARGET - 1], body=LOG[TARGET - 1].body.replace(b'"at":"', b'"actor":"client:wbe","at":"', 1))
    log = {
        "honest": LOG,
        "altered": [*LOG[: TARGET - 1], bad, *LOG[TARGET:]],
        "foreign": [*LOG[: TARGET - 1], replace(LOG[TARGET - 1], body=b"{}"), *LOG[TARGET:]],
        "gap": [*LOG[: TARGET - 1], *LOG[TARGET:]],
    }[where]
    verifier = Verifier()
    for stored in log:
        verifier.check(stored)
        verifier.remember()
    assert verifier.report() == verify(log)


def test_a_gap_is_the_streams_own_fault() -> None:
    """No aggregate is accused; a message on a subject without an aggregate is named as such."""
    verifier = Verifier()
    verifier.check(LOG[0])
    verifier.check(StoredMessage(4, "tokens.public.jwks", b"{}"))
    assert verifier.tally.faults == {"": Fault(2, "missing; the stream goes on at 4")}
    assert [found.reason for found in verifier.report().foreign] == ["no aggregate lies on this subject"]


def test_a_first_commit_with_a_predecessor_is_foreign() -> None:
    """As in the grammar; if another commit follows, it was altered."""
    log = two_families(2)[::2]
    first = replace(log[0], body=log[0].body.replace(b'"prev":null', b'"prev":"' + b"0" * 64 + b'"'))
    report = verify([first])
    assert report.fault is None and [found.seq for found in report.foreign] == [1]
    fault = verify([first, replace(log[1], seq=2)]).fault
    assert fault is not None and (fault.seq, fault.accuser) == (1, 2)


@pytest.mark.parametrize("place", ["tokens.acme.family.f.junk", "tokens.acme.family.f.revoked"])
def test_a_foreign_message_accuses_no_commit(place: str) -> None:
    """Although it refers to a family's last commit with another digest; the chain passes it."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    ahead = deepcopy(made)
    ahead.rotate("f")
    body = ahead.log[2].body.replace(digest(made.log[1].body).encode(), b"0" * 64)
    made.log.append(StoredMessage(3, place, body))
    made.rotate("f")
    report = verify(made.log)
    assert (report.fault, [found.seq for found in report.foreign]) == (None, [3])


def test_a_message_below_an_aggregate_of_one_subject_is_foreign() -> None:
    """Its subject ends as a family's does, and it refers to the commit before."""
    made, other = LogMaker(), LogMaker()
    made.configure_client("web")
    other.open("f")
    place, prev = made.log[0].subject, digest(made.log[0].body).encode()
    body = other.log[0].body.replace(b"tokens.acme.family.f", place.encode())
    body = body.replace(b'"prev":null,"prev_seq":0', b'"prev":"' + prev + b'","prev_seq":1')
    report = verify([*made.log, StoredMessage(2, f"{place}.live", body)])
    assert (report.fault, report.aggregates) == (None, 1)
    assert [(found.seq, found.reason) for found in report.foreign] == [(2, "no aggregate lies on this subject")]


def test_a_commit_bad_by_itself_accuses_no_other() -> None:
    """It has a repeated key and also a wrong digest of the commit before."""
    log = two_families(2)[::2]
    body = log[1].body.replace(digest(log[0].body).encode(), b"0" * 64).replace(b'"v":1', b'"v":1,"v":1')
    fault = verify([log[0], StoredMessage(2, log[1].subject, body)]).fault
    assert fault == Fault(2, "it holds a JSON key twice, and readers differ on which one counts")


def test_an_altered_time_is_the_altered_commits_fault() -> None:
    """Its successor has an earlier time and a wrong digest, and is whole."""
    made = LogMaker()
    for _ in range(3):
        made.configure_client("web")
    later = replace(made.log[1], body=made.log[1].body.replace(b'"2026-', b'"2027-'))
    fault = verify([made.log[0], later, made.log[2]]).fault
    assert fault == Fault(2, "altered: commit 3 was chained to another body than this", 3)


@pytest.mark.parametrize("time", [b"2026-11-20T12:00:01", b"2026-11-20T12:00:01.5"])
def test_a_time_without_a_zone_is_foreign(time: bytes) -> None:
    """It could not be compared with others."""
    made = LogMaker()
    made.configure_client("web")
    made.configure_client("web")
    last = replace(made.log[1], body=made.log[1].body.replace(b"2026-11-20T12:00:01Z", time))
    report = verify([made.log[0], last])
    assert (report.fault, [found.seq for found in report.foreign]) == (None, [2])


def test_a_later_version_is_named() -> None:
    """It is no fault of the log; the reader needs another program."""
    fault = verify(altered(b'"v":1', b'"v":7')).fault
    assert fault is not None and fault.why == "commit version 7, this program reads version 1"


def test_a_commit_about_another_person_than_its_subject_is_foreign() -> None:
    """It is whole by itself, and every reader ignores it."""
    stored = next(stored for stored in LOG if ".subject." in stored.subject)
    place = f"{stored.subject.rpartition('.')[0]}.{'0' * 32}"
    body = re.sub(rb'"aggregate":"[^"]*"', b'"aggregate":"' + place.encode() + b'"', stored.body)
    report = verify([StoredMessage(1, place, body)])
    assert (report.fault, report.aggregates, report.foreign_count) == (None, 0, 1)
    assert report.foreign[0].reason == "it is about another person than its subject"
