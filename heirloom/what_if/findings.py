"""What-if: the scenario, and the findings (`service.decide.what_if.rerun`)."""

from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from events.aggregates.settings import Policy
from heirloom.moment import Moment
from service.decide.what_if.rerun import Rerun, Verdict, VerdictOutcome
from service.errors import OAuthError
from service.registry.parse_settings import parse

_LONGER = "Presentations of expired tokens are not in the log: who would have come back in a longer time is not known."
CAVEATS = {
    "refresh_token_grace": "Repetitions answered within the grace time are not in the log: "
    "how many families a shorter one would have ended is not known.",
    "refresh_token_ttl": _LONGER,
    "refresh_token_idle_ttl": _LONGER,
    "refresh_token_rotation": "Where tokens are not rotated a copy cannot be told from the original: "
    "thefts that rotation would have shown are not known.",
    "require_offline_access": "What a family without a refresh token would have done with one is not known.",
    "required_acr": "Who is refused may sign in again, and better: that would be another family.",
    "scope_narrowing": "scope_narrowing decides what access tokens may do, never which families live.",
}
"""The settings that can be tried, and for each what the log does not record."""


class Scenario(msgspec.Struct, frozen=True):
    """A what-if query: the families of `tenant` (and of `client_id`) that began at or after `since`, up to `until`.

    `changes` are the settings that every client would have had, None meaning the default. Families are live or expired
    at `now`, or at the last commit where `until` is a sequence; `limit` of the affected ones are listed.
    """

    tenant: str
    changes: dict[str, Any]
    now: datetime
    client_id: str | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: int = 100


class Concerned(msgspec.Struct, frozen=True):
    """A family that would have fared differently: `live`, or the reason of its end, in fact and instead.

    `seq`, `at` and `generation` are of the first presentation that would have been answered differently, `was` and
    `would_be` its answers; None where only the time decides.
    """

    family_id: str
    client_id: str
    sub: str
    outcome: VerdictOutcome
    in_fact: str
    instead: str
    seq: int | None = None
    at: datetime | None = None
    generation: int | None = None
    was: str | None = None
    would_be: str | None = None


class Findings(msgspec.Struct):
    """How many families had a refresh token, how they would have fared, and the first of the affected ones.

    `lived_past` counts by the actual reason of the end, `died_of` and `ended_otherwise_of` by the hypothetical one. Of
    the families that ended because an old token was presented, `retries_spared` are those whose presenter would have
    received the same answer again within the grace time, and `thefts_let_through` those whose old token would still
    have been valid.
    """

    policy: dict[str, Any]
    as_of: datetime
    families: int = 0
    same: int = 0
    would_have_lived: int = 0
    would_have_died: int = 0
    would_have_ended_otherwise: int = 0
    retries_spared: int = 0
    thefts_let_through: int = 0
    lived_past: dict[str, int] = {}
    died_of: dict[str, int] = {}
    ended_otherwise_of: dict[str, int] = {}
    caveats: tuple[str, ...] = ()
    items: list[Concerned] = []

    def count(self, family_id: str, rerun: Rerun, verdict: Verdict, limit: int) -> None:
        """Count one more family, and list it if it is affected and fewer than `limit` are listed."""
        difference = rerun.first_difference
        self.families += 1
        match verdict.outcome:
            case "same":
                self.same += 1
                return
            case "would_have_lived":
                self.would_have_lived += 1
                _count(self.lived_past, verdict.in_fact)
            case "would_have_died":
                self.would_have_died += 1
                _count(self.died_of, verdict.instead if difference is None else difference.instead)
            case "would_have_ended_otherwise":
                self.would_have_ended_otherwise += 1
                _count(self.ended_otherwise_of, verdict.instead)
        if difference is not None and difference.in_fact == "reuse_detected":
            self.retries_spared += difference.instead == "repeated"
            self.thefts_let_through += difference.instead == "redeemed"
        if len(self.items) < limit:
            self.items.append(_concerned(family_id, rerun, verdict))


def changes_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings to try, validated. Raises `OAuthError` for an invalid one, and where there are none."""
    wrong = sorted(settings.keys() - CAVEATS.keys() & set(Policy.__struct_fields__))
    if wrong:
        raise OAuthError("invalid_request", f"{', '.join(wrong)}: no family lives or dies by it")
    if not settings:
        raise OAuthError("invalid_request", f"name what would have been different: {', '.join(CAVEATS)}")
    known = parse(Policy, {name: value for name, value in settings.items() if value is not None})
    return {name: getattr(known, name) for name in settings}


def nothing_yet(changes: dict[str, Any], now: datetime) -> Findings:
    """The findings before any family is counted."""
    return Findings(changes, now, caveats=tuple(dict.fromkeys(CAVEATS[name] for name in changes)))


def _count(counts: dict[str, int], reason: str) -> None:
    counts[reason] = counts.get(reason, 0) + 1


def _concerned(family_id: str, rerun: Rerun, verdict: Verdict) -> Concerned:
    concerned = Concerned(family_id, rerun.fact.client_id, rerun.fact.sub, *verdict)
    difference = rerun.first_difference
    if difference is None:
        return concerned
    return replace(
        concerned,
        seq=difference.seq,
        at=difference.at,
        generation=difference.generation,
        was=difference.in_fact,
        would_be=difference.instead,
    )
