"""What would have been decided under another policy: a family's history, decided once more by the same functions.

Two histories run side by side. In fact: the commits of the log. Instead: the same requests, given to the same `redeem`,
`first_tokens` and `cut_off` with other rules. What no policy has a say in (a sign-out, an operator's order, a code
used twice) happens in both.

Where the two part, something must be assumed of the people. It is this:

- Everybody presents at the same moments as in fact, and presents what he would then have had: in the place of
  generation g, whatever the other policy gave the last time that in fact gave g. With rotation `reuse` in one of the
  two histories these are not the same numbers.
- Who was refused was given nothing. What he was given in fact, and presented later, he does not present.
- A forged generation is as far beyond the newest one as it was in fact.
- Nobody comes who did not come in fact: a family that lives on has no history beyond what the log says.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from events.aggregates.family import (
    FamilyCommit,
    FamilyEvent,
    FamilyRevoked,
    FamilyState,
    TokenIssued,
    TokenRedeemed,
    fold,
)
from service.decide.cut_off import CutOff, cut_off
from service.decide.decision import Decision, Granted, Refused
from service.decide.issue import First, access_token, first_tokens
from service.decide.policy import Rules
from service.decide.refresh_token import Redeem, ends_at, redeem
from service.decide.what_if.presentation import ACCEPTED, Presentation, presentation

Outcome: TypeAlias = Literal["same", "would_have_lived", "would_have_died", "would_have_ended_otherwise"]


class GenerationMap(msgspec.Struct, frozen=True, array_like=True):
    """For the generations `first` to `last` in fact: `generation` instead, and `step` more for each after the first."""

    first: int
    last: int
    generation: int
    step: int = 0

    def instead(self, generation: int) -> int:
        """In the place of that one."""
        return self.generation + (generation - self.first) * self.step


class FirstDifference(msgspec.Struct, frozen=True):
    """The first presentation that was decided differently: of `generation` in fact, with both answers.

    An answer is `redeemed`, `repeated`, or for a refusal the reason: why the family had ended, `expired`, …
    """

    seq: int
    at: datetime
    generation: int
    in_fact: str
    instead: str


class Run(msgspec.Struct, frozen=True):
    """A family after some commits, in both histories."""

    fact: FamilyState
    instead: FamilyState
    held: tuple[GenerationMap, ...] = ()
    parting: FirstDifference | None = None
    stored_at: datetime | None = None
    """When the last commit was stored, where it is the latest redemption of `instead`."""


class Verdict(NamedTuple):
    """What the other policy would have changed. `in_fact` and `instead`: `live`, or why the family had ended."""

    outcome: Outcome
    in_fact: str
    instead: str


def follow(run: Run | None, seq: int, commit: FamilyCommit, rules: Rules, stored_at: datetime | None = None) -> Run:
    """Both histories after the family's next commit, which lies at `seq` and was stored at `stored_at`, if known.

    `rules` are what the other policy makes of those that then held for the client. Raises `ValueError` for a commit
    that cannot follow.
    """
    after = _follow(run, seq, commit, rules)
    return replace(after, stored_at=stored_at if after.instead.redeemed_at == commit.at else None)


def _follow(run: Run | None, seq: int, commit: FamilyCommit, rules: Rules) -> Run:
    presented = presentation(commit)
    if run is not None and presented is not None:
        return _present(run, seq, commit, presented, rules)
    before, held, parting = (None, (), None) if run is None else (run.instead, run.held, run.parting)
    instead = _happen(before, commit, rules)
    if not held and commit.state.generation is not None and instead.generation is not None:
        held = _give(held, commit.state.generation, instead.generation)
    return Run(commit.state, instead, held, parting)


def verdict(run: Run, in_fact: Rules, instead: Rules, now: datetime) -> Verdict:
    """How both histories stand at `now`, under the client's rules of the one and of the other."""
    fact, other = end(run.fact, in_fact, now), end(run.instead, instead, now)
    return Verdict(_outcome(run, fact, other), fact, other)


def end(state: FamilyState, rules: Rules, now: datetime) -> str:
    """`live`, or why the family's refresh token is accepted no more."""
    if state.revoked is not None:
        return state.revoked.reason
    if state.generation is None:
        return "no_refresh_token"
    return "expired" if ends_at(state, rules) <= now else "live"


def _outcome(run: Run, fact: str, instead: str) -> Outcome:
    if run.parting is not None:
        if run.parting.in_fact in ACCEPTED:
            return "would_have_died"
        return "would_have_lived" if run.instead.revoked is None else "would_have_ended_otherwise"
    if fact == instead:
        return "same"
    if fact == "live":
        return "would_have_died"
    return "would_have_lived" if instead == "live" else "would_have_ended_otherwise"


def _present(run: Run, seq: int, commit: FamilyCommit, presented: Presentation, rules: Rules) -> Run:
    instead, held, answer = run.instead, run.held, "no_refresh_token"
    generation = _in_the_place_of(run, presented.generation)
    if generation is not None:
        command = Redeem(
            now=commit.at,
            rules=rules,
            client_id=run.instead.client_id,
            generation=generation,
            scope=presented.scope,
            resource=presented.resource,
            retry=presented.retry,
            jti=commit.id,
            key=commit.state.key,
            cause=f"presentation of generation {generation} by {commit.actor}",
            answered_at=run.stored_at,
        )
        decision = redeem(run.instead, command)
        answer = _answer(decision, run.instead, command)
        instead = fold(run.instead, decision.events, commit.at)
        if isinstance(decision.outcome, Granted) and presented.is_accepted:
            held = _give(held, commit.state.generation, decision.outcome.generation)
    parting = run.parting
    if parting is None and (answer in ACCEPTED) != presented.is_accepted:
        parting = FirstDifference(seq, commit.at, presented.generation, presented.answer, answer)
    return Run(commit.state, instead, held, parting)


def _answer(decision: Decision, before: FamilyState, command: Redeem) -> str:
    if not isinstance(decision.outcome, Refused):
        redeemed = any(isinstance(event, TokenRedeemed) for event in decision.events)
        return "redeemed" if redeemed else "repeated"
    reasons = [event.reason for event in decision.events if isinstance(event, FamilyRevoked)]
    if reasons:
        return reasons[0]
    ended = end(before, command.rules, command.now)
    return decision.outcome.error.code if ended == "live" else ended


def _happen(state: FamilyState | None, commit: FamilyCommit, rules: Rules) -> FamilyState:
    """What happened does so again; whether there is a refresh token, and who is too weakly authenticated, is policy."""
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


def _in_the_place_of(run: Run, generation: int) -> int | None:
    """What is presented instead of that generation; None if nobody was given it."""
    newest, newest_instead = run.fact.generation, run.instead.generation
    newest = -1 if newest is None else newest
    if generation > newest:  # forged, and so it is there
        return generation if newest_instead is None else newest_instead + generation - newest
    for held in reversed(run.held):  # what was given last counts
        if held.first <= generation <= held.last:
            return held.instead(generation)
    return None


def _give(held: tuple[GenerationMap, ...], generation: int | None, instead: int | None) -> tuple[GenerationMap, ...]:
    """Where `generation` was given, `instead` would have been. A run of generations in step is one entry."""
    assert generation is not None and instead is not None  # a redemption gives one
    if held:
        *before, last = held
        if generation == last.last and last.instead(generation) == instead:
            return held
        step = instead - last.instead(last.last)
        if generation == last.last + 1 and (last.first == last.last or step == last.step):
            return (*before, replace(last, last=generation, step=step))
    return (*held, GenerationMap(generation, generation, instead))
