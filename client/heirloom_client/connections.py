"""The connection of each event loop: opened when it is needed, and again when it was lost."""

import asyncio
import random
import ssl
import weakref
from collections.abc import Sequence

from heirloom_client.credentials import Credential
from heirloom_client.errors import Error, InvalidClient, Unavailable
from heirloom_client.fork import renew
from heirloom_client.link import Link

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
STEADY_SECONDS = 1.0
"""A connection that lived so long was a good one: the next is opened without a pause."""
ONE_SERVER_SECONDS = 3.0


class _Slot:
    def __init__(self) -> None:
        self.link: Link | None = None
        self.opening = asyncio.Lock()
        self.failures = 0
        self.was_open = False


class Connections:
    """One connection for each event loop that asks; none is shared with a forked process."""

    def __init__(
        self, addresses: Sequence[str], credential: Credential, name: str, tls: ssl.SSLContext | None = None
    ) -> None:
        self._addresses = list(addresses)
        self._credential = credential
        self._name = name
        self._tls = tls
        self._forget()
        renew(self)

    def _forget(self) -> None:
        self._slots: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Slot] = weakref.WeakKeyDictionary()

    def after_fork(self) -> None:
        """Leave the parent's connections alone: closing one here would touch the event loop that still has it."""
        _abandoned.append(self._slots)
        self._forget()

    async def link(self, seconds: float) -> Link:
        """The open connection of the running event loop; one task opens it, the others wait.

        Tries every address, again and again for `seconds`, with growing pauses. Raises `InvalidClient` at once if no
        connection was ever open, so that a wrong secret is no riddle; otherwise, and `Unavailable`, when time is over.
        """
        slot = self._slots.setdefault(asyncio.get_running_loop(), _Slot())
        if slot.link is not None and slot.link.is_open:
            return slot.link
        fault: Error = Unavailable(f"no connection within {seconds:.3g} seconds")
        try:
            async with asyncio.timeout(seconds), slot.opening:
                while slot.link is None or not slot.link.is_open:
                    try:
                        await self._replace(slot)
                    except (InvalidClient, Unavailable) as error:
                        fault = error
                        slot.failures += 1
                        if isinstance(error, InvalidClient) and not slot.was_open:
                            raise
        except TimeoutError:
            raise fault from None
        return slot.link

    async def _replace(self, slot: _Slot) -> None:
        if slot.link is not None:
            now = asyncio.get_running_loop().time()
            slot.failures = 0 if now - slot.link.opened_at > STEADY_SECONDS else slot.failures + 1
            await slot.link.close()
            slot.link = None
        if slot.failures:
            pause = min(FIRST_PAUSE_SECONDS * 2**slot.failures, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # so that many clients do not come at once
        slot.link = await self._open()
        slot.was_open = True

    async def _open(self) -> Link:
        faults: list[Error] = []
        for address in random.sample(self._addresses, len(self._addresses)):
            login = await self._credential()
            try:
                return await Link.open(address, login, self._name, self._tls, ONE_SERVER_SECONDS)
            except (InvalidClient, Unavailable) as error:
                faults.append(error)
            except TimeoutError:
                faults.append(Unavailable(f"no server answered within {ONE_SERVER_SECONDS:.3g} seconds"))
        raise next((fault for fault in faults if isinstance(fault, InvalidClient)), faults[-1])

    async def close(self) -> None:
        """Close the running event loop's connection. A later request opens another one."""
        slot = self._slots.pop(asyncio.get_running_loop(), None)
        if slot is not None and slot.link is not None:
            await slot.link.close()


_abandoned: list[object] = []
"""Held, so that nothing of the parent's is closed when it is collected."""
