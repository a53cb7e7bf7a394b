"""Which families a cut-off ends, and that it ends each of them once."""

import pytest
from msgspec.structs import replace

from events.aggregates.client import ClientConfigured, ClientDisabled, ClientEnabled, ClientSecretIssued, ClientState
from events.aggregates.family_events import DeviceAuthorizationStarted, FamilyRevoked, GrantAuthorized, RevocationReason
from events.aggregates.settings import ClientSettings, TenantConfigured, TenantSettings, TenantState
from events.aggregates.subject import (
    ConsentWithdrawn,
    SubjectBlocked,
    SubjectEvent,
    SubjectState,
    SubjectTokensRevoked,
    SubjectUnblocked,
    evolve,
)
from service.decide.cut_off import CutOff, cut_off, of_client, of_subject, of_tenant
from service.decide.decision import Decision, Done
from service.decide.policy import Rules
from tests.service.decide.given import RULES, at, given, opened

BLOCKED = CutOff("subject_blocked", "SubjectBlocked at sequence 7", "alice")
TIGHTENED = CutOff("policy_changed", "TenantConfigured at sequence 7")
GOLD = Rules(required_acr=("gold",))


def acr(*values: str) -> ClientSettings:
    return ClientSettings(required_acr=values or None)


@pytest.mark.parametrize(
    ("event", "meant"),
    [
        (SubjectBlocked("alice", "lost phone"), BLOCKED),
        (SubjectUnblocked("alice"), None),
        (
            SubjectTokensRevoked("alice"),
            CutOff("subject_revoked", "SubjectTokensRevoked at sequence 7", "alice"),
        ),
        (
            ConsentWithdrawn("alice", "web"),
            CutOff("consent_withdrawn", "ConsentWithdrawn at sequence 7", "alice", "web"),
        ),
    ],
)
def test_the_cut_offs_of_a_persons_events(event: SubjectEvent, meant: CutOff | None) -> None:
    """Each names the families to end, and its event as the cause."""
    assert of_subject((event,), 7) == meant


def test_the_state_of_a_person() -> None:
    """Only a block changes it; one aggregate is about one person."""
    state = evolve(None, ConsentWithdrawn("alice", "web"))
    assert state == SubjectState("alice")
    blocked = evolve(state, SubjectBlocked("alice"))
    assert blocked.blocked and evolve(blocked, SubjectTokensRevoked("alice")).blocked
    assert not evolve(blocked, SubjectUnblocked("alice")).blocked
    with pytest.raises(ValueError, match="one person"):
        evolve(state, SubjectBlocked("bob"))


def test_the_cut_offs_of_a_clients_events() -> None:
    """Disabling ends all families; settings end some only if they require more than before."""
    disabled = CutOff("client_disabled", "ClientDisabled at sequence 7", client_id="web")
    assert of_client("web", (ClientDisabled(),), ClientState(), 7) == disabled
    assert of_client("web", (ClientEnabled(),), ClientState(disabled=True), 7) is None
    assert of_client("web", (ClientSecretIssued("…"),), ClientState(), 7) is None
    assert of_client("web", (ClientConfigured(acr("gold")),), None, 7) is None, "a new client has no families"


@pytest.mark.parametrize(
    ("before", "after", "tighter"),
    [
        (acr(), acr("gold"), True),
        (acr("silver", "gold"), acr("gold"), True),
        (acr("gold"), acr("silver", "gold"), False),
        (acr("gold"), acr("gold"), False),
        (acr("gold"), acr(), True),  # its tenant may require more
        (acr(), acr(), False),
    ],
)
def test_the_cut_offs_of_a_stricter_policy(before: ClientSettings, after: ClientSettings, tighter: bool) -> None:
    """It removes a sufficient level, or leaves the choice to the tenant."""
    meant = of_client("web", (ClientConfigured(after),), ClientState(before), 7)
    assert (meant is not None) == tighter
    tenant_before = TenantState(TenantSettings(required_acr=before.required_acr))
    of_the_tenant = of_tenant((TenantConfigured(TenantSettings(required_acr=after.required_acr)),), tenant_before, 7)
    assert (of_the_tenant is not None) == (tighter and after.required_acr is not None)


def test_a_family_ends_once() -> None:
    """An ended or unknown family gets no further events."""
    events = (FamilyRevoked("subject_blocked", "SubjectBlocked at sequence 7"),)
    assert cut_off(given(opened()), BLOCKED, RULES) == Decision(Done(), events)
    assert cut_off(given(opened(), events), BLOCKED, RULES) == Decision(Done())
    assert cut_off(None, BLOCKED, RULES) == Decision(Done())
    assert cut_off(given(opened(acr="gold")), TIGHTENED, GOLD) == Decision(Done())


def test_a_stricter_policy_ends_families_with_a_weak_or_missing_acr() -> None:
    """None without a person, and no device that waits for its answer."""
    assert cut_off(given(opened()), TIGHTENED, GOLD).events
    assert cut_off(given(opened(acr="silver")), TIGHTENED, GOLD).events
    assert not cut_off(given(opened(acr="gold")), TIGHTENED, GOLD).events
    assert not cut_off(given(opened(acr="silver")), TIGHTENED, RULES).events
    waiting = DeviceAuthorizationStarted("tv", "read", (), "seed", at(600))
    assert not cut_off(given((waiting,)), TIGHTENED, GOLD).events
    assert cut_off(given((waiting,)), CutOff("client_disabled", "…", client_id="tv"), RULES).events


@pytest.mark.parametrize("reason", ["subject_blocked", "subject_revoked", "consent_withdrawn"])
def test_a_cut_off_of_a_person_does_not_end_a_client_of_that_name(reason: RevocationReason) -> None:
    """RFC 9700 §4.15: the `sub` of `client_credentials` is a `client_id`; disabling that client ends its tokens."""
    beginning, *tokens = opened("web")
    assert isinstance(beginning, GrantAuthorized)
    own = given((replace(beginning, sub="web", grant="client_credentials"), *tokens))
    persons = given((replace(beginning, sub="web"), *tokens))
    order = CutOff(reason, "an order at sequence 7", "web")
    assert cut_off(own, order, RULES).events == ()
    assert cut_off(persons, order, RULES).events == (FamilyRevoked(reason, "an order at sequence 7"),)
    disabled = CutOff("client_disabled", "ClientDisabled at sequence 7", client_id="web")
    assert len(cut_off(own, disabled, RULES).events) == 1


def test_a_cut_off_by_policy_names_the_event_and_its_sequence() -> None:
    """Auditors see which order ended the families."""
    tighter = TenantConfigured(TenantSettings(required_acr=("gold",)))
    assert of_tenant((tighter,), TenantState(TenantSettings()), 7) == TIGHTENED
    of_the_client = CutOff("policy_changed", "ClientConfigured at sequence 7", client_id="web")
    assert of_client("web", (ClientConfigured(acr("gold")),), ClientState(), 7) == of_the_client
