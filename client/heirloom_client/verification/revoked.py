"""What is revoked: families, single tokens, and tokens of clients; each until the last such token has expired; pure."""

from typing import Any, NamedTuple

import msgspec

from heirloom_client.verification.access_token import Claims

SLOT_SECONDS = 64
"""Entries are forgotten together that are over in the same slot: a million of them have few different ends."""


class Voided(NamedTuple):
    """A client: tokens with an `iat` up to `void_until` are void, all of them where that is None."""

    until: int
    void_until: float | None


class Revoked:
    """Grows with the revocations of so long as access tokens live, and no more."""

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}
        """Families and tokens, whose names are random and differ, with the slot in which they are forgotten."""
        self._slots: dict[int, list[str]] = {}
        self._clients: dict[str, Voided] = {}

    def __len__(self) -> int:
        return len(self._ended) + len(self._clients)

    def add(self, name: str, until: int) -> None:
        """A family, or a token by its `jti`, until that time (NumericDate)."""
        slot = until // SLOT_SECONDS + 1
        if self._ended.get(name, -1) < slot:
            self._ended[name] = slot
            self._slots.setdefault(slot, []).append(name)

    def void(self, client_id: str, until: int, void_until: float | None) -> None:
        """Tokens of a client; a later call takes the place of an earlier one."""
        self._clients[client_id] = Voided(until, void_until)

    def forget(self, now: float) -> None:
        """Forget what is over: such tokens have expired."""
        for slot in [slot for slot in self._slots if slot * SLOT_SECONDS <= now]:
            for name in self._slots.pop(slot):
                if self._ended.get(name) == slot:
                    del self._ended[name]
        for client_id in [name for name, voided in self._clients.items() if voided.until <= now]:
            del self._clients[client_id]

    def holds(self, claims: Claims) -> bool:
        """Whether a token with these claims is revoked."""
        if claims.sid in self._ended or claims.jti in self._ended:
            return True
        if claims.exchanged_from and not self._ended.keys().isdisjoint(claims.exchanged_from):
            return True
        return bool(self._clients) and self._is_of_a_void_client(claims)

    def _is_of_a_void_client(self, claims: Claims) -> bool:
        holders, act = [claims.client_id], claims.act
        while act is not None:
            holders.append(act.sub)
            act = act.act
        for holder in holders:
            voided = self._clients.get(holder)
            if voided is not None and (voided.void_until is None or claims.iat <= voided.void_until):
                return True
        return False

    def to_builtins(self) -> dict[str, Any]:
        """For a snapshot."""
        return {"ended": list(self._ended.items()), "clients": dict(self._clients)}

    @classmethod
    def of(cls, saved: "SavedRevoked") -> "Revoked":
        """From a snapshot."""
        made = cls()
        for name, slot in saved.ended:
            made._ended[name] = slot
            made._slots.setdefault(slot, []).append(name)
        made._clients = {client_id: Voided(*voided) for client_id, voided in saved.clients.items()}
        return made


class SavedRevoked(msgspec.Struct, frozen=True):
    """What `Revoked.to_builtins` gives."""

    ended: list[tuple[str, int]]
    clients: dict[str, tuple[int, float | None]]
