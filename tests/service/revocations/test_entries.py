"""A commit leads to the right entry, and an entry tells a resource server nothing that its tokens do not."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from events.aggregates import client as client_events
from events.aggregates import key as key_events
from events.aggregates.aggregate_names import AggregateName
from events.aggregates.commit import Commit
from events.aggregates.family_events import FamilyRevoked, RevocationReason, TokenRevoked
from events.aggregates.settings import ClientSettings
from events.log.grammar import read_commit
from events.log.stored_message import StoredMessage
from service.revocations.entries import ClientVoided, Entry, FamilyEnded, KeyChanged, TokenEnded, client_of, entry_of
from service.revocations.stream import VERIFIER_LEEWAY_SECONDS
from tests.projections.logs import START, LogMaker, eventful_log

KEEP = 1000
AT = START.timestamp()


def entry_from(stored: StoredMessage, keep: int = KEEP) -> Entry | None:
    """The entry of a stored commit."""
    return entry_of(AggregateName.parse(stored.subject), stored.seq, _commit(stored), keep)


def _commit(stored: StoredMessage) -> Commit[Any, Any]:
    commit = read_commit(stored)
    assert isinstance(commit, Commit)
    return commit


def entry_of_client(*events: client_events.ClientEvent) -> Entry | None:
    """The entry of a client's first commit of these events."""
    state: client_events.ClientState | None = None
    for event in events:
        state = client_events.evolve(state, event)
    assert state is not None
    commit = Commit(1, "c", START, "operator", None, 0, events, state)
    return entry_of(AggregateName("acme", "client", "web"), 7, commit, KEEP)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [("reuse_detected", "security"), ("client_request", "request"), ("subject_blocked", "administration")],
)
def test_the_end_of_a_family(reason: RevocationReason, shown: str) -> None:
    """Kept until its last access token has expired; which person's cut-off it was is not said."""
    made = LogMaker()
    made.open("f")
    made.commit("f", FamilyRevoked(reason, "because"))
    at = AT + 1
    if reason == "reuse_detected":
        made = LogMaker()
        made.open("f")
        made.rotate("f")
        made.reuse("f")
        at += 1
    stored = made.log[-1]
    expected = FamilyEnded(seq=stored.seq, at=at, reason=shown, family_id="f", until=int(at) + KEEP)  # type: ignore[arg-type]
    assert entry_from(stored) == expected
    assert expected.subject("acme") == "revocations.acme.f"
    assert client_of(AggregateName.parse(stored.subject), _commit(stored)) == "web"


def test_one_access_token() -> None:
    """Kept until the log itself forgets it, and the verifier's leeway longer."""
    made = LogMaker()
    made.open("f")
    kept = START + timedelta(seconds=400.5)
    made.commit("f", TokenRevoked("f-0", START + timedelta(seconds=300), kept_until=kept))
    until = int(AT) + 401 + VERIFIER_LEEWAY_SECONDS
    expected = TokenEnded(seq=2, at=AT + 1, reason="request", family_id="f", jti="f-0", until=until)
    assert entry_from(made.log[-1]) == expected
    assert expected.subject("acme") == "revocations.acme.f"


def test_two_tokens_in_one_commit_end_the_family() -> None:
    """No decision of this version does so; saying too little would be worse."""
    made = LogMaker()
    made.open("f")
    made.rotate("f")
    soon = START + timedelta(seconds=300)
    made.commit("f", TokenRevoked("f-0", soon), TokenRevoked("f-1", soon))
    assert isinstance(entry_from(made.log[-1]), FamilyEnded)


def test_a_later_presentation_is_an_entry_of_its_own() -> None:
    """For every commit on `…revoked`; it only repeats that the family has ended."""
    found = [entry for stored in eventful_log() if (entry := entry_from(stored)) is not None]
    assert [entry.seq for entry in found if isinstance(entry, FamilyEnded) and entry.family_id == "f2"] == [36, 37]


def test_a_client() -> None:
    """Disabled: all of its tokens; enabled again: those from before. Other changes of it are no entry."""
    configured, disabled = client_events.ClientConfigured(ClientSettings()), client_events.ClientDisabled(at=START)
    until = int(AT) + KEEP
    assert entry_of_client(configured) is None
    assert entry_of_client(configured, disabled) == ClientVoided(seq=7, at=AT, client_id="web", until=until)
    void_until = START + timedelta(seconds=2)
    enabled = client_events.ClientEnabled(void_until=void_until)
    entry = ClientVoided(seq=7, at=AT, client_id="web", until=until + 2, void_until=AT + 2)
    assert entry_of_client(configured, disabled, enabled) == entry
    assert entry.subject("acme") == "revocations.acme.client.web"
    old = entry_of_client(client_events.ClientDisabled(), client_events.ClientEnabled())
    assert isinstance(old, ClientVoided) and old.void_until == AT


def test_a_key() -> None:
    """A signing key with its public half; a MAC key is nobody's business."""
    name = AggregateName("acme", "key", "k")
    jwk = {"kty": "OKP", "kid": "k"}
    for alg, public in (("Ed25519", jwk), ("HS256", {})):
        state = key_events.KeyState(alg, 1, 1, public, "active")  # type: ignore[arg-type]
        commit = Commit(1, "c", START, "operator", None, 0, (key_events.KeyActivated(),), state)
        entry = entry_of(name, 7, commit, 0)
        assert entry == (KeyChanged(seq=7, at=AT, kid="k", status="active", jwk=jwk) if public else None)
        assert client_of(name, commit) is None


def test_no_entry_holds_more_than_its_names() -> None:
    """Neither `sub`, scope, seed, cause nor actor; cut-offs of a person, settings and roles are no entries."""
    kinds = set()
    for stored in eventful_log():
        entry = entry_from(stored)
        kind = AggregateName.parse(stored.subject).kind
        if entry is None:
            assert not stored.subject.endswith(".revoked")
            continue
        kinds.add(kind)
        known = msgspec.json.decode(msgspec.json.encode(entry))
        assert known.keys() <= {"type", "seq", "at", "until", "reason", "family_id", "jti", "client_id", "void_until"}
        assert known["reason"] in ("security", "request", "administration") if kind == "family" else True
    assert kinds == {"family", "client"}
