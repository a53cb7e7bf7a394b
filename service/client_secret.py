"""Verifying client secrets (RFC 6749 §2.3.1) so that nobody who guesses makes others wait (§10.10).

Argon2id is meant to be slow, so it is paid for seldom: a secret that was right is remembered for a while as a digest
under a key of this process alone. The digest covers the stored hash, so a secret that was replaced is not remembered.
"""

import asyncio
import base64
import functools
import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION

from service.errors import OAuthError, invalid_client

log = logging.getLogger("heirloom.clients")

hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""The least that OWASP recommends for what people choose. A client secret is 256 random bits, which nobody finds
however fast the hash; and what it costs, whoever guesses makes us pay."""

AT_ONCE = 2
WAITING = 32
WAITING_PER_CLIENT = 4
"""Different secrets of one client that wait at once, the one being verified included."""
REMEMBERED = 4096
REMEMBERED_SECONDS = 600.0
FREE_FAILURES = 10
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
FORGIVEN_SECONDS = 600.0


class Account(NamedTuple):
    """Whose secret: the client and the hash that is stored for it; None where no secret can be right."""

    tenant: str
    client_id: str
    secret_hash: str | None


NOBODY = Account("", "", None)
"""All clients that do not exist: together they get no more attention than one that does."""


class _Turns:
    """What is going on for one account."""

    def __init__(self) -> None:
        self.one_at_a_time = asyncio.Lock()
        self.waiting = 0
        self.failures = 0
        self.paused_until = 0.0

    def failed(self, now: float) -> None:
        if now - self.paused_until > FORGIVEN_SECONDS:
            self.failures = 0
        self.failures += 1
        doubled = min(self.failures - FREE_FAILURES, 10)
        self.paused_until = now if doubled < 0 else now + min(FIRST_PAUSE_SECONDS * 2**doubled, LONGEST_PAUSE_SECONDS)


def matches(secret_hash: str, secret: str) -> bool:
    """Whether the Argon2id hash is of that secret. Takes about 20 ms and 19 MiB, or what the hash says."""
    try:
        return hasher.verify(secret_hash, secret)
    except (VerificationError, InvalidHashError):
        return False


def decoy() -> str:
    """A hash of no secret, which `matches` takes as long to deny as a real one; no start-up pays for hashing."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (hasher.salt_len, hasher.hash_len)
    )
    costs = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    return f"$argon2id$v={ARGON2_VERSION}${costs}${salt}${digest}"


class Secrets:
    """Verifies secrets, at most `AT_ONCE` at once and one of each client, in threads beside the event loop."""

    def __init__(self, verify: Callable[[str, str], bool] = matches, now: Callable[[], float] = time.monotonic) -> None:
        self._verify = verify
        self._now = now
        self._threads = ThreadPoolExecutor(AT_ONCE, "secrets")
        self._key = secrets.token_bytes(32)
        self._decoy = decoy()
        self._right: dict[bytes, float] = {}
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._turns: dict[Account, _Turns] = {}

    async def are_right(self, account: Account, secret: str) -> bool:
        """Whether that is the account's secret; for an account without one it takes just as long to say no.

        Raises `invalid_client` while wrong secrets of this client are not even looked at, and
        `temporarily_unavailable` when too many wait already.
        """
        digest = hmac.digest(self._key, msgspec.json.encode((*account, secret)), hashlib.sha256)
        right_since = self._right.get(digest)
        if right_since is not None and self._now() - right_since < REMEMBERED_SECONDS:
            return True
        task = self._running.get(digest)
        if task is None:
            turns = self._turns_of(account)
            # what was right before is verified anew, but not made to wait for those who guess
            if right_since is None and self._now() < turns.paused_until:
                raise invalid_client()
            if turns.waiting >= WAITING_PER_CLIENT or len(self._running) >= WAITING:
                raise OAuthError("temporarily_unavailable", "too many secrets are being verified; try again")
            turns.waiting += 1
            task = self._running[digest] = asyncio.create_task(self._in_turn(turns, account, digest, secret))
            task.add_done_callback(functools.partial(self._leave, turns, digest))
        return await asyncio.shield(task)

    async def _in_turn(self, turns: _Turns, account: Account, digest: bytes, secret: str) -> bool:
        async with turns.one_at_a_time:
            if digest not in self._right and self._now() < turns.paused_until:
                raise invalid_client()
            loop = asyncio.get_running_loop()
            right = await loop.run_in_executor(self._threads, self._verify, account.secret_hash or self._decoy, secret)
        if right and account.secret_hash is not None:
            turns.failures = 0
            self._remember(digest)
            return True
        turns.failed(self._now())
        if turns.failures == FREE_FAILURES:
            log.warning(
                "a client's secret is being guessed", extra={"tenant": account.tenant, "client": account.client_id}
            )
        return False

    def _remember(self, digest: bytes) -> None:
        self._right.pop(digest, None)
        self._right[digest] = self._now()
        if len(self._right) > REMEMBERED:
            del self._right[next(iter(self._right))]

    def _leave(self, turns: _Turns, digest: bytes, _done: "asyncio.Task[bool]") -> None:
        turns.waiting -= 1
        del self._running[digest]

    def _turns_of(self, account: Account) -> _Turns:
        """Kept for the accounts asked for last."""
        turns = self._turns[account] = self._turns.pop(account) if account in self._turns else _Turns()
        if len(self._turns) > REMEMBERED:
            del self._turns[next(iter(self._turns))]
        return turns
