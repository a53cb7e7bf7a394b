"""The device flow (RFC 8628): a device without a browser waits for a person's approval elsewhere."""

import asyncio
from collections.abc import Awaitable, Callable

from heirloom_client.errors import AuthorizationPending, ExpiredToken, SlowDown, Unavailable
from heirloom_client.tokens import DeviceAuthorization, Tokens

SLOWER_SECONDS = 5
"""How much more a device waits between two polls after `slow_down` (RFC 8628 §3.5)."""


class Device:
    """A started request. Show `user_code` and `verification_uri`, then wait for `tokens()`."""

    def __init__(self, authorization: DeviceAuthorization, poll: Callable[[str], Awaitable[Tokens]]) -> None:
        self.user_code = authorization.user_code
        self.verification_uri = authorization.verification_uri
        self.verification_uri_complete = authorization.verification_uri_complete
        self.expires_in = authorization.expires_in
        self._interval = float(authorization.interval)
        self._code = authorization.device_code
        self._poll = poll

    async def poll(self) -> Tokens:
        """Ask once. Raises `AuthorizationPending`, `SlowDown`, `AccessDenied`, `ExpiredToken`, `InvalidGrant`."""
        return await self._poll(self._code)

    async def tokens(self) -> Tokens:
        """Poll, as often as the service allows, until the person has answered. Raises `AccessDenied`, `ExpiredToken`.

        A poll without an answer is repeated: an approved code gives the same tokens again for a while.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.expires_in
        while loop.time() < end:
            await asyncio.sleep(self._interval)
            try:
                return await self.poll()
            except SlowDown:
                self._interval += SLOWER_SECONDS
            except (AuthorizationPending, Unavailable):
                continue
        raise ExpiredToken("nobody has answered in time; start again")

    def __repr__(self) -> str:
        return f"Device(user_code={self.user_code!r}, verification_uri={self.verification_uri!r})"
