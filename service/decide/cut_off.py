"""Cut-offs: which families a commit about a person, a client or a tenant ends (ADR 0004)."""

from typing import NamedTuple

import msgspec

from events.aggregates.client import ClientConfigured, ClientDisabled, ClientEvent, ClientState
from events.aggregates.commit import type_of
from events.aggregates.family import FamilyState, is_of_a_person
from events.aggregates.family_events import FamilyRevoked, RevocationReason
from events.aggregates.settings import Policy, TenantEvent, TenantState
from events.aggregates.subject import (
    ConsentWithdrawn,
    SubjectBlocked,
    SubjectEvent,
    SubjectTokensRevoked,
    SubjectUnblocked,
)
from service.decide.decision import Decision, Done
from service.decide.policy import Rules


class CutOff(NamedTuple):
    """End the families of `sub` and `client_id` (None: of all) for `reason`; `cause` names event and sequence."""

    reason: RevocationReason
    cause: str
    sub: str | None = None
    client_id: str | None = None


def cause_of(event: type[msgspec.Struct], seq: int) -> str:
    """How a revocation names the event that caused it."""
    return f"{type_of(event)} at sequence {seq}"


def of_subject(events: tuple[SubjectEvent, ...], seq: int) -> CutOff | None:
    """The families that the commit at `seq` ends: all of the person's, or of one client's, that began before it."""
    for event in events:
        cause = cause_of(type(event), seq)
        match event:
            case SubjectBlocked():
                return CutOff("subject_blocked", cause, event.sub)
            case SubjectTokensRevoked():
                return CutOff("subject_revoked", cause, event.sub)
            case ConsentWithdrawn():
                return CutOff("consent_withdrawn", cause, event.sub, event.client_id)
            case SubjectUnblocked():
                pass
    return None


def of_client(client_id: str, events: tuple[ClientEvent, ...], before: ClientState | None, seq: int) -> CutOff | None:
    """The families that the commit at `seq` ends; `before` is the client's state before it, None for a new client."""
    for event in events:
        if isinstance(event, ClientDisabled):
            return CutOff("client_disabled", cause_of(ClientDisabled, seq), client_id=client_id)
        if isinstance(event, ClientConfigured) and before is not None and is_tighter(before.settings, event.settings):
            return CutOff("policy_changed", cause_of(ClientConfigured, seq), client_id=client_id)
    return None


def of_tenant(events: tuple[TenantEvent, ...], before: TenantState | None, seq: int) -> CutOff | None:
    """The families that the commit at `seq` ends; `before` is the tenant's state before it, None for a new tenant."""
    for event in events:
        after = event.settings
        if before is not None and after.required_acr is not None and is_tighter(before.settings, after):
            return CutOff("policy_changed", cause_of(type(event), seq))
    return None


def is_tighter(before: Policy, after: Policy) -> bool:
    """Whether a family may now be too weakly authenticated."""
    if after.required_acr is None:
        return before.required_acr is not None  # the tenant's value holds again, and may be tighter
    return before.required_acr is None or not set(before.required_acr) <= set(after.required_acr)


def cut_off(state: FamilyState | None, command: CutOff, rules: Rules) -> Decision:
    """`Done`, with `FamilyRevoked` if the family lives and the cut-off is about it. `rules` are its client's of today.

    A cut-off of a person does not end a client's own tokens, even if the two have the same name (RFC 9700 §4.15).
    """
    if state is None or state.revoked is not None or (command.sub is not None and not is_of_a_person(state)):
        return Decision(Done())
    if command.reason == "policy_changed" and is_strong_enough(state, rules):
        return Decision(Done())
    return Decision(Done(), (FamilyRevoked(command.reason, command.cause),))


def is_strong_enough(state: FamilyState, rules: Rules) -> bool:
    """Whether the person was authenticated well enough (CONTRACT §4). True where there is no person, or none yet."""
    if rules.required_acr is None or not is_of_a_person(state) or not state.sub:
        return True
    return state.acr in rules.required_acr
