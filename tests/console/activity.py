"""A day of several clients, made from the service's own events, for the console to show.

Sign-ins and refreshes follow the hours of a working day; some people log out, an operator ends a few families, one
authorization code is presented twice, and three refresh tokens are stolen.
"""

import random
from datetime import datetime, timedelta

from events.aggregates.family_events import (
    AuthorizationCodeIssued,
    FamilyRevoked,
    GrantAuthorized,
    TokenIssued,
    TokenRedeemed,
    TokenReuseDetected,
    TokenRotated,
)
from events.log.stored_message import StoredMessage
from tests.projections.logs import AUDIENCE, LogMaker

CLIENTS = {"web": 6, "mobile": 9, "tv": 2, "back-office": 3}
"""The share of each client."""
PEOPLE = ("alice", "bashir", "chiara", "dana", "emeka", "farida", "goran", "hana", "ines", "jonas", "keiko", "luca")
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class Day(LogMaker):
    """A log that sets its own time."""

    def __init__(self, end: datetime, seed: int = 20) -> None:
        super().__init__()
        self._time = end - timedelta(hours=24)
        self._end = end
        self._chance = random.Random(seed)
        self._living: dict[str, tuple[str, int]] = {}

    @property
    def now(self) -> datetime:
        """The time of the next commit."""
        return self._time

    def pass_by(self, per_hour: int) -> list[StoredMessage]:
        """The log of the whole day, with `per_hour` commits in the busiest hours."""
        thefts = [self._end - timedelta(hours=hours) for hours in (17.3, 6.6, 0.4)]
        copied_codes = [self._end - timedelta(hours=9.2)]
        while self._time < self._end:
            busy = max(0.12, 1 - abs(self._time.hour - 13.5) / 9)
            self._time += timedelta(seconds=self._chance.expovariate(per_hour * busy / 3600))
            if thefts and self._time >= thefts[0]:
                thefts.pop(0)
                self._theft()
            elif copied_codes and self._time >= copied_codes[0]:
                copied_codes.pop(0)
                self._code_shown_twice()
            else:
                self._something()
        return self.log

    def _something(self) -> None:
        choice = self._chance.random()
        if len(self._living) < 8 or choice < 0.16:
            self._sign_in()
        elif choice < 0.175:
            self._end_of(self._any(), "client_request", "request", None)
        elif choice < 0.178:
            self._end_of(self._any(), "operator", "request", "operator")
        else:
            self._refresh(self._any())

    def _sign_in(self) -> str:
        client = self._chance.choices(list(CLIENTS), list(CLIENTS.values()))[0]
        family_id = "".join(self._chance.choices(ALPHABET, k=22))
        sub = self._chance.choice(PEOPLE)
        self.commit(
            family_id,
            GrantAuthorized(client, sub, "openid read write offline_access", AUDIENCE, "issue", "seed"),
            self._access_token(),
            TokenIssued("refresh", "", (), self.now + timedelta(days=14), generation=0, key=1),
            actor=f"client:{client}",
        )
        self._living[family_id] = client, 0
        return family_id

    def _refresh(self, family_id: str) -> None:
        client, generation = self._living[family_id]
        self.commit(
            family_id,
            TokenRedeemed(generation, "refresh_token"),
            TokenRotated(generation, generation + 1, self.now + timedelta(days=14), 1),
            self._access_token(),
            actor=f"client:{client}",
        )
        self._living[family_id] = client, generation + 1

    def _theft(self) -> None:
        family_id = max(self._living, key=lambda family: self._living[family][1])
        for _ in range(2):
            self._refresh(family_id)
            self._time += timedelta(seconds=40)
        client, generation = self._living.pop(family_id)
        shown = TokenReuseDetected(generation - 1, generation, client)
        ended = FamilyRevoked("reuse_detected", f"generation {generation - 1} was presented")
        self.commit(family_id, shown, ended, actor=f"client:{client}")

    def _code_shown_twice(self) -> None:
        family_id = "".join(self._chance.choices(ALPHABET, k=22))
        granted = GrantAuthorized("mobile", "hana", "openid read", AUDIENCE, "authorization_code", "seed")
        code = AuthorizationCodeIssued(self.now + timedelta(minutes=1), "challenge")
        self.commit(family_id, granted, code, actor="client:login")
        self._time += timedelta(seconds=5)
        shown = TokenReuseDetected(0, 0, "mobile", "authorization_code")
        self.commit(family_id, shown, FamilyRevoked("code_reuse", "request"), actor="client:mobile")

    def _end_of(self, family_id: str, reason: str, cause: str, actor: str | None) -> None:
        client, _ = self._living.pop(family_id)
        self.commit(family_id, FamilyRevoked(reason, cause), actor=actor or f"client:{client}")  # type: ignore[arg-type]

    def _any(self) -> str:
        return self._chance.choice(list(self._living))

    def _access_token(self) -> TokenIssued:
        jti = "".join(self._chance.choices(ALPHABET, k=22))
        return TokenIssued("access", "openid read write", AUDIENCE, self.now + timedelta(minutes=5), jti=jti)
