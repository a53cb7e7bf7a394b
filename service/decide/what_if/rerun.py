"""What another policy would have decided: a family's history, decided again by the same functions.

Two histories run side by side. `fact` holds the commits of the log. `instead` holds what the same requests come to
when `redeem`, `first_tokens` and `cut_off` decide on them under other rules. Events that no policy decides about (a
sign-out, an operator's order, a code used twice) happen in both.

Where the two histories part, the rerun assumes about the people:

- Everybody presents tokens at the same moments as in fact, and presents the token that he would then have had: in the
  place of generation g, the one that the other policy issued the last time that in fact g was issued. With rotation
  `reuse` in one of the histories the two numbers differ.
- Whoever was refused was issued nothing. A token that he has only in fact he does not present.
- A forged generation is as far beyond the newest one as it was in fact.
- Nobody comes who did not come in fact: a family that lives on has no history beyond the log's.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from events.aggregates.family import FamilyCommit, FamilyState, fold
from events.aggregates.family_events import FamilyEvent, FamilyRevoked, LateDuplicateRefused, TokenIssued, TokenRedeemed
from service.decide.cut_off import CutOff, cut_off
from service.decide.decision import Decision, Granted, Refused
from service.decide.issue import First, access_token, first_tokens
from service.decide.policy import Rules
from service.decide.refresh_token import Redeem, ends_at, redeem
from service.decide.what_if.presentation import ACCEPTED, LATE, Presentation, presentation

VerdictOutcome: TypeAlias = Literal["same", "would_have_lived", "would_have_died", "would_have_ended_otherwise"]


class GenerationMap(msgspec.Struct, frozen=True, array_like=True):
    """Maps the history's generations `first` to `last` to the rerun's: `first` to `generation`, each next by `step`.

    A `step` of 0 maps all of them to one generation.
    """

    first: int
    last: int
    generation: int
    step: int = 0

    def instead(self, generation: int) -> int:
        """The rerun's generation for this one of the history."""
        return self.generation + (generation - self.first) * self.step


class FirstDifference(msgspec.Struct, frozen=True):
    """The first presentation that is decided differently: of `generation` in fact, with both answers.

    An answer is `redeemed`, `repeated`, or the reason of a refusal: why the family had ended, `expired`,
    `late_duplicate`, an error code.
    """

    seq: int
    at: datetime
    generation: int
    in_fact: str
    instead: str


class Rerun(msgspec.Struct, frozen=True):
    """A family after some commits, in both histories.

    `stored_at` is when the last commit was stored, if that commit is the latest redemption of `instead`.
    """

    fact: FamilyState
    instead: FamilyState
    generation_maps: tuple[GenerationMap, ...] = ()
    first_difference: FirstDifference | None = None
    stored_at: datetime | None = None


class Verdict(NamedTuple):
    """What the other policy would have changed. `in_fact` and `instead` are `live`, or why the family had ended."""

    outcome: VerdictOutcome
    in_fact: str
    instead: str


def follow(
    rerun: Rerun | None, seq: int, commit: FamilyCommit, rules: Rules, stored_at: datetime | None = None
) -> Rerun:
    """Both histories after the family's next commit, which has sequence `seq` and was stored at `stored_at`, if known.

    `rules` are the client's rules of that time with the other policy's changes. Raises `ValueError` for a commit that
    cannot follow.
    """
    after = _follow(rerun, seq, commit, rules)
    return replace(after, stored_at=stored_at if after.instead.redeemed_at == commit.at else None)


def _follow(rerun: Rerun | None, seq: int, commit: FamilyCommit, rules: Rules) -> Rerun:
    presented = presentation(commit)
    if rerun is not None and presented is not None:
        return _present(rerun, seq, commit, presented, rules)
    instead = _happen(None if rerun is None else rerun.instead, commit, rules)
    after = Rerun(commit.state, instead) if rerun is None else replace(rerun, fact=commit.state, instead=instead)
    if not after.generation_maps and commit.state.generation is not None and instead.generation is not None:
        return replace(after, generation_maps=_issued((), commit.state.generation, instead.generation))
    return after


def verdict(rerun: Rerun, in_fact: Rules, instead: Rules, now: datetime) -> Verdict:
    """How both histories stand at `now`, under the client's rules in fact and under the other policy's."""
    fact, other = end(rerun.fact, in_fact, now), end(rerun.instead, instead, now)
    return Verdict(_outcome(rerun, fact, other), fact, other)


def end(state: FamilyState, rules: Rules, now: datetime) -> str:
    """`live`, or why the family's refresh token is not accepted any more."""
    if state.revoked is not None:
        return state.revoked.reason
    if state.generation is None:
        return "no_refresh_token"
    return "expired" if ends_at(state, rules) <= now else "live"


def _outcome(rerun: Rerun, fact: str, instead: str) -> VerdictOutcome:
    if rerun.first_difference is not None:
        if rerun.first_difference.in_fact in ACCEPTED:
            return "would_have_died"
        return "would_have_lived" if rerun.instead.revoked is None else "would_have_ended_otherwise"
    if fact == instead:
        return "same"
    if fact == "live":
        return "would_have_died"
    return "would_have_lived" if instead == "live" else "would_have_ended_otherwise"


def _present(rerun: Rerun, seq: int, commit: FamilyCommit, presented: Presentation, rules: Rules) -> Rerun:
    instead, maps, answer = rerun.instead, rerun.generation_maps, "no_refresh_token"
    generation = _in_the_place_of(rerun, presented.generation)
    if generation is not None:
        command = Redeem(
            now=commit.at,
            rules=rules,
            client_id=rerun.instead.client_id,
            generation=generation,
            scope=presented.scope,
            resource=presented.resource,
            retry=presented.retry,
            jti=commit.id,
            key=commit.state.key,
            cause=f"presentation of generation {generation} by {commit.actor}",
            answered_at=rerun.stored_at,
            redeemed_with=(presented.retry.key,) if presented.answer == LATE and presented.retry is not None else (),
        )
        decision = redeem(rerun.instead, command)
        answer = _answer(decision, rerun.instead, command)
        instead = fold(rerun.instead, decision.events, commit.at)
        if isinstance(decision.outcome, Granted) and presented.is_accepted:
            maps = _issued(maps, commit.state.generation, decision.outcome.generation)
    difference = rerun.first_difference
    if difference is None and presented.answer != LATE and (answer in ACCEPTED) != presented.is_accepted:
        difference = FirstDifference(seq, commit.at, presented.generation, presented.answer, answer)
    return Rerun(commit.state, instead, maps, difference)


def _answer(decision: Decision, before: FamilyState, command: Redeem) -> str:
    if not isinstance(decision.outcome, Refused):
        redeemed = any(isinstance(event, TokenRedeemed) for event in decision.events)
        return "redeemed" if redeemed else "repeated"
    if any(isinstance(event, LateDuplicateRefused) for event in decision.events):
        return LATE
    reasons = [event.reason for event in decision.events if isinstance(event, FamilyRevoked)]
    if reasons:
        return reasons[0]
    ended = end(before, command.rules, command.now)
    return decision.outcome.error.code if ended == "live" else ended


def _happen(state: FamilyState | None, commit: FamilyCommit, rules: Rules) -> FamilyState:
    """The state after events that happen in both histories, with the other policy's first tokens and revocations."""
    if state is not None and state.revoked is not None:
        return state
    first = any(isinstance(event, TokenIssued) and event.kind == "refresh" for event in commit.events)
    if first:
        begun = tuple(event for event in commit.events if not isinstance(event, TokenIssued))
        state = fold(state, begun, commit.at)
        return fold(state, _first_tokens(state, commit, rules), commit.at)
    return fold(state, tuple(_decided_again(state, commit.events, rules)), commit.at)


def _first_tokens(state: FamilyState, commit: FamilyCommit, rules: Rules) -> tuple[FamilyEvent, ...]:
    audience = commit.state.access.audience if commit.state.access is not None else state.audience
    access = access_token(commit.at, rules, commit.id, state.scope, audience)
    first = First(access, state.client_id, state.audience, state.opened_at)
    return first_tokens(first, rules, commit.state.key)[1]


def _decided_again(state: FamilyState | None, events: tuple[FamilyEvent, ...], rules: Rules) -> Iterable[FamilyEvent]:
    for event in events:
        if isinstance(event, FamilyRevoked) and event.reason == "policy_changed":
            yield from cut_off(state, CutOff(event.reason, event.cause), rules).events
        else:
            yield event


def _in_the_place_of(rerun: Rerun, generation: int) -> int | None:
    """The generation that is presented instead of this one; None if it was issued to nobody."""
    newest, newest_instead = rerun.fact.generation, rerun.instead.generation
    newest = -1 if newest is None else newest
    if generation > newest:  # it is forged, so it is forged in the other history too
        return generation if newest_instead is None else newest_instead + generation - newest
    for one in reversed(rerun.generation_maps):  # the one that was issued last counts
        if one.first <= generation <= one.last:
            return one.instead(generation)
    return None


def _issued(maps: tuple[GenerationMap, ...], generation: int | None, instead: int | None) -> tuple[GenerationMap, ...]:
    """The maps after `generation` was issued in fact, and `instead` in its place. A steady sequence is one entry."""
    assert generation is not None and instead is not None  # a redemption gives one
    if maps:
        *before, last = maps
        if generation == last.last and last.instead(generation) == instead:
            return maps
        step = instead - last.instead(last.last)
        if generation == last.last + 1 and (last.first == last.last or step == last.step):
            return (*before, replace(last, last=generation, step=step))
    return (*maps, GenerationMap(generation, generation, instead))
