"""The login: one token, printed where the console was started, and the sessions it opens."""

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable

from itsdangerous import BadSignature, TimestampSigner

from events.bounded_map import BoundedMap

SESSION_SECONDS = 8 * 3600
"""A working day; then the token is asked for again."""
GUESSES = 10
GUESSES_SECONDS = 300
"""So many wrong tokens from one address within that time, and each further wrong one is answered late."""
SLOW_SECONDS = 0.5
_MAX_ADDRESSES = 10_000


class TooManyGuesses(Exception):
    """That was a wrong token, after many from that address; it had better wait so many `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"that is not the token, after too many wrong ones; guesses are slow for {seconds} seconds")
        self.seconds = seconds


class Login:
    """Sessions last `SESSION_SECONDS`, and not longer than this process. `clock` tells monotonic seconds."""

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = _digest(token)
        self._signer = TimestampSigner(secrets.token_bytes(32), digest_method=hashlib.sha256)
        self._ended: dict[str, float] = {}
        self._clock = clock
        self._wrong: BoundedMap[str, deque[float]] = BoundedMap(_MAX_ADDRESSES)

    def open(self, token: str, address: str) -> str | None:
        """The cookie of a new session, or None for a wrong token. Raises `TooManyGuesses` for a wrong one alone.

        Whoever has the token comes in, whatever others at the same address do: it is not one that can be guessed.
        """
        if hmac.compare_digest(_digest(token.strip()), self._token):
            return self._signer.sign(secrets.token_hex(16)).decode()
        now = self._clock()
        wrong = self._wrong.get(address, deque())
        while wrong and wrong[0] <= now - GUESSES_SECONDS:
            wrong.popleft()
        if len(wrong) >= GUESSES:
            raise TooManyGuesses(int(wrong[0] + GUESSES_SECONDS - now) + 1)
        wrong.append(now)
        self._wrong[address] = wrong
        return None

    def knows(self, cookie: str) -> bool:
        """Whether it is that of a session that lasts."""
        session = self._session(cookie)
        return session is not None and session not in self._ended

    def close(self, cookie: str) -> None:
        """End a session; its cookie is worth nothing from now on."""
        now = self._clock()
        if (session := self._session(cookie)) is not None:
            self._ended = {ended: at for ended, at in self._ended.items() if at > now - SESSION_SECONDS}
            self._ended[session] = now

    def _session(self, cookie: str) -> str | None:
        try:
            return self._signer.unsign(cookie, max_age=SESSION_SECONDS).decode()
        except BadSignature:
            return None


def _digest(token: str) -> bytes:
    """Of equal length for all, so that comparing tells nothing."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
