"""The login: one token, printed where the console was started, and the sessions that it opens."""

import hashlib
import hmac
import secrets
import time
from collections import deque
from collections.abc import Callable

from itsdangerous import BadSignature, TimestampSigner

from events.bounded_map import BoundedMap

SESSION_SECONDS = 8 * 3600
"""A working day; then the console asks for the token again."""
GUESSES = 10
GUESSES_SECONDS = 300
"""After so many wrong tokens from one address within that time, each further wrong one is answered late."""
SLOW_SECONDS = 0.5
_MAX_ADDRESSES = 10_000


class TooManyGuesses(Exception):
    """A wrong token after many from that address; the answer should be delayed by so many `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"that is not the token, after too many wrong ones; guesses are slow for {seconds} seconds")
        self.seconds = seconds


class Login:
    """Sessions, which last `SESSION_SECONDS`, but not longer than this process. `clock` returns monotonic seconds."""

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = _digest(token)
        self._signer = TimestampSigner(secrets.token_bytes(32), digest_method=hashlib.sha256)
        self._ended: dict[str, float] = {}
        self._clock = clock
        self._wrong: BoundedMap[str, deque[float]] = BoundedMap(_MAX_ADDRESSES)

    def open(self, token: str, address: str) -> str | None:
        """The cookie of a new session, or None for a wrong token. Raises `TooManyGuesses`, but only for a wrong one.

        The right token always opens a session, whatever others at the same address do: it cannot be guessed.
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
        """Whether the cookie belongs to a session that has not ended."""
        session = self._session(cookie)
        return session is not None and session not in self._ended

    def close(self, cookie: str) -> None:
        """End a session; its cookie is void from now on."""
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
    """A digest, whose fixed length keeps the comparison from revealing the token's."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
