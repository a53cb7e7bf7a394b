"""What a broker sends, taken apart: nats-py's parser, with a short way for messages.

nats-py tries one regular expression after the other on every message, and makes a coroutine of each. Here a message is
cut out by the lengths that its own line tells, and handed at once to whoever listens for it. All other lines are
nats-py's to understand.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from nats.errors import ProtocolError
from nats.protocol.parser import Parser as NatsParser

Taker = Callable[[bytes, bytes, bytes, bytes | None], None]
"""Takes a message as it came: subject, reply subject, body, and headers if it has any."""


class Receiver(Protocol):
    """Who gets what is taken apart: the `takers`, by the number of their subscription, and for all others itself."""

    takers: dict[int, Taker]

    def malformed(self, size: int, error: Exception) -> None:
        """A taker could make nothing of a message of so many bytes."""

    def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None
    ) -> Awaitable[None]: ...


class Parser(NatsParser):
    """Fed with what arrives, however it is cut into pieces."""

    nc: Receiver

    def reset(self) -> None:
        """Forget what has arrived: another connection begins."""
        super().reset()
        self._held: list[bytes] = []
        self._size = 0
        self._wanted = 0

    async def parse(self, data: bytes = b"") -> None:
        """Hand over every message that is whole by now. Raises `ProtocolError` for what no broker sends."""
        if self._held:
            self._held.append(data)
            self._size += len(data)
            if self._size < self._wanted:
                return
            data = b"".join(self._held)
            self._held.clear()
        done = await self._hand_over(data)
        if done < len(data):
            self._held.append(data[done:])
            self._size = len(data) - done

    async def _hand_over(self, data: bytes) -> int:
        """How many bytes are done with. To go on, so many as `_wanted` must be there of the rest."""
        takers, begin = self.nc.takers, 0
        while (end := data.find(b"\r\n", begin)) >= 0:
            words, start = data[begin:end].split(), end + 2
            kind = words[0] if words else b""
            if kind != b"MSG" and kind != b"HMSG":
                await super().parse(data[begin:start])
                begin = start
                continue
            try:
                sid, stop = int(words[2]), start + int(words[-1])
                body = start + int(words[-2]) if kind == b"HMSG" else start
            except (ValueError, IndexError) as error:
                raise ProtocolError("nats: malformed MSG") from error
            if stop + 2 > len(data):
                self._wanted = stop + 2 - begin
                return begin
            reply = words[3] if len(words) > (4 if body == start else 5) else b""
            headers = data[start:body] if body > start else None
            take = takers.get(sid)
            begin = stop + 2
            if take is None:
                await self.nc._process_msg(sid, words[1], reply, data[body:stop], headers)  # noqa: SLF001  # its name
                continue
            try:
                take(words[1], reply, data[body:stop], headers)
            except (ValueError, IndexError) as error:
                self.nc.malformed(stop - start, error)
        self._wanted = 0
        return begin
