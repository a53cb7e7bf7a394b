"""The connection to NATS that everything here uses: nats-py's, but robust against hostile messages, and faster.

`events.bus.connect.connect` opens one.
"""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from nats.aio.client import Client, Srv
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import BadSubjectError, MaxPayloadError
from nats.errors import Error as NatsError
from nats.protocol.parser import PERMISSIONS_ERR

from events.bus.broker_version import BrokerLeft, BrokerTooOld, is_enough, refusal
from events.bus.headers import Unread, UnreadableHeaders, unreadable
from events.bus.parser import Parser, RawHandler
from events.bus.peer import BROKER_OWNER, require_owner
from events.task_cancellation import end

T = TypeVar("T")

log = logging.getLogger("heirloom.bus")

HEADER_FRAME_BYTES = len(b"NATS/1.0\r\n\r\n")
"""The size of a header block without headers."""
NOT_NATS = "what answers there does not speak NATS"
MAX_SUBJECTS_CHARACTERS = 4000
"""Characters of subject and reply subject together. A broker ends a connection that sends a line of more than 4096,
unless it is configured otherwise."""
LINE_ENDS = {ord("\r"): " ", ord("\n"): " "}
KEEP_ANY_BYTE = "surrogateescape"
"""The error handler by which `as_text` keeps bytes that are not UTF-8."""


class Denied(Exception):
    """The broker refuses a request: these credentials have no permission for it."""


class Connection(Client):
    """A NATS connection that survives every malformed message, with short hot paths.

    nats-py decodes subjects and headers inside its read loop, and an undecodable byte there ends the loop for good:
    any client allowed to publish one request could silence a whole replica. This class accepts every byte that the
    broker accepts in a subject, and its read loop goes on after any exception that a message causes in its handler.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jetstream_api = "$JS.API"
        """The subject prefix under which these credentials reach JetStream's API for the log's stream."""
        self.raw_handlers: dict[int, RawHandler] = {}
        """The handlers that the read loop calls itself, by the number of their subscription."""
        self.denied = asyncio.Event()
        """Set once the broker has refused something for want of permission. A refused request gets no reply."""
        self.when_denied: Callable[[str], None] | None = None
        """Receives each such refusal in the broker's words, in place of nats-py's error callback."""
        self._was_connected = False
        self._left: set[str] = set()
        self._ps = Parser(self)

    def outlast_brokers(self) -> None:
        """From now on reconnect for as long as it takes, as a patient connection does from the beginning."""
        self.options |= {"allow_reconnect": True, "max_reconnect_attempts": -1}

    async def unless_denied(self, asking: Coroutine[Any, Any, T]) -> T:
        """Await `asking`, a request. Raises `Denied` as soon as the broker refuses it."""
        asked = asyncio.create_task(asking)
        tasks = asked, asyncio.create_task(self.denied.wait())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise Denied
            return asked.result()
        finally:
            await end(tasks)

    async def listen(self, subject: str, handler: RawHandler) -> Subscription:
        """Subscribe, and have the read loop itself call `handler` with every message, without nats-py's queue and task.

        For handlers that return within microseconds.
        """
        subscription = await self.subscribe(subject, cb=_never_called)
        self.set_raw_handler(subscription, handler)
        return subscription

    def set_raw_handler(self, subscription: Subscription, handler: RawHandler) -> None:
        """Have the read loop call `handler` with the messages of that subscription, in place of its own callback."""
        self.raw_handlers[subscription._id] = handler  # noqa: SLF001  # the number in the broker's messages

    async def stop_listening(self, subscription: Subscription) -> None:
        """End a subscription that `listen` made."""
        del self.raw_handlers[subscription._id]  # noqa: SLF001  # as above
        await subscription.unsubscribe()

    async def _connect_to_server(self, server: Srv) -> None:
        """As nats-py's, but let the stream know that it is over TLS; otherwise asyncio warns whenever it is closed."""
        await super()._connect_to_server(server)
        if isinstance(self._transport, TcpTransport):
            self._transport.connect_tls = partial(_secure, self._transport)  # type: ignore[method-assign]

    async def _select_next_server(self) -> None:
        """Close the socket of the attempt before, which nats-py leaves to the garbage collector."""
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]  # as nats-py has it
        await super()._select_next_server()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """As nats-py's, but make sure that the search for a broker ends.

        nats-py cancels the search once. asyncio loses that cancellation when a broker accepts or refuses in the same
        moment; then the search, or the connection it made, would go on for ever and keep the process from ending.
        """
        while (searching := self._reconnection_task) not in (None, asyncio.current_task()) and not searching.done():
            await end((searching,))
        self._write_pending()
        await super()._close(status, do_cbs)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Send PING after all pending commands, so that a `flush` covers them; nats-py's PING overtakes them."""
        if self.is_connected:
            self._write_pending()
        await super()._send_ping(future)

    def _write_pending(self) -> None:
        """Write the pending commands. nats-py would also write them to a lost connection, for which uvloop raises."""
        waiting, self._pending, self._pending_data_size = self._pending, [], 0
        if waiting and self.is_connected and self._transport is not None:
            with contextlib.suppress(RuntimeError):  # lost, which nats-py has not noticed yet
                self._transport.writelines(waiting)

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """As nats-py's, at half its cost: header names are constants here, and not checked at every call."""
        if _is_ambiguous(subject) or _is_ambiguous(reply) or len(subject) + len(reply) > MAX_SUBJECTS_CHARACTERS:
            raise BadSubjectError
        # concatenated, because nats-py's own header names are members of an enumeration, which format differently
        lines = "".join([name + ": " + value + "\r\n" for name, value in headers.items()]) if headers else ""
        if len(lines) + len(payload) > self._max_payload - HEADER_FRAME_BYTES:
            raise MaxPayloadError  # the broker counts the headers too, and would end the connection for good
        # every header ends with one line end; if there are more, a name or a value contains one
        if headers and not lines.count("\n") == lines.count("\r") == len(headers):
            clean = {name.translate(LINE_ENDS): value.translate(LINE_ENDS) for name, value in headers.items()}
            await self.publish(subject, payload, reply, clean)
            return
        if self._status != Client.CONNECTED:
            await super().publish(subject, payload, reply, headers)
            return
        if lines:
            head = f"NATS/1.0\r\n{lines}\r\n".encode()
            sizes = f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}\r\n"
            command = b"".join((sizes.encode(errors=KEEP_ANY_BYTE), head, payload, b"\r\n"))
        else:
            sizes = f"PUB {subject} {reply} {len(payload)}\r\n"
            command = b"".join((sizes.encode(errors=KEEP_ANY_BYTE), payload, b"\r\n"))
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def headers_of(self, lines: bytes | None) -> dict[str, str]:
        """Parse the header block that a raw handler received. Raises `UnreadableHeaders`."""
        if not lines:
            return {}
        if (reason := unreadable(lines)) is not None:
            raise UnreadableHeaders(reason)
        return self._parse_header_lines(lines.partition(b"\r\n")[2])

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """As nats-py's; headers that cannot be read become an `Unread`, for which `legible` raises."""
        if headers and (reason := unreadable(headers)) is not None:
            return Unread(reason)
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError):
            return Unread("the message's headers are malformed")

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers or b"")
        except Exception as error:  # a message that breaks its handler must not stop the messages after it
            self.drop_malformed(len(data), error)

    async def connect(self, *arguments: Any, **options: Any) -> None:
        """As nats-py's, but close the socket when it fails.

        Raises `BrokerTooOld`, before any credentials are sent to that broker.
        """
        try:
            await super().connect(*arguments, **options)
        except BaseException:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]  # as nats-py has it
            raise
        self._was_connected = True

    async def _process_connect_init(self) -> None:
        """As nats-py's, but errors of a peer that speaks no NATS become `NatsError`; others would end the search."""
        try:
            await super()._process_connect_init()
        except ssl.SSLError:  # for an untrusted certificate that is a ValueError too
            raise
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise NatsError(NOT_NATS) from error
        if not isinstance(self._max_payload, int):
            raise NatsError(NOT_NATS)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Check a server's version, and its process's owner where that is known, before anything is sent to it.

        A server that is too old is left for another one. Raises `BrokerTooOld` if all servers of the URL are too old,
        and `NotOurBroker`.
        """
        if initial_connection and (expected := os.environ.get(BROKER_OWNER)):
            writer = getattr(self._transport, "_io_writer", None)
            connected = writer.get_extra_info("socket") if writer is not None else None
            where = "the broker's address" if self._current_server is None else _address(self._current_server)
            require_owner(int(expected), connected, where)
        await super()._process_info(info, initial_connection)
        version = str(info.get("version", ""))
        if not initial_connection or is_enough(version) or self._current_server is None:
            return
        address = _address(self._current_server)
        reason = refusal(str(info.get("server_name", "")), address, version)
        is_new = address not in self._left
        self._left.add(address)
        if not self._was_connected and self._left.issuperset(self._named()):
            raise BrokerTooOld(reason)
        if is_new:  # nats-py tries each server again and again: log it once
            log.error("%s", reason)
        raise BrokerLeft(reason)

    def _named(self) -> set[str]:
        """The servers of the URL, without those that nats-py discovered through them."""
        return {_address(server) for server in self._server_pool if not server.discovered}

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        """As nats-py's, for subjects of any bytes."""
        return self.msg_class(self, as_text(subject), as_text(reply), data, headers, _sid=sid)

    async def _process_err(self, err_msg: str) -> None:
        if PERMISSIONS_ERR in err_msg:
            self.denied.set()
            if self.when_denied is not None:
                self.when_denied(err_msg)
                return
        await super()._process_err(err_msg)

    def drop_malformed(self, size: int, error: Exception) -> None:
        """Log that one message of `size` bytes was dropped, for which its handler raised `error`."""
        log.warning("dropped a malformed message", extra={"bytes": size, "error": type(error).__name__})


def as_text(subject: bytes) -> str:
    """Decode a subject, which may hold any byte. `publish` encodes the text to the very same bytes."""
    return subject.decode(errors=KEEP_ANY_BYTE)


def _address(server: Srv) -> str:
    return f"{server.uri.hostname}:{server.uri.port}"


def _is_ambiguous(subject: str) -> bool:
    """Whether the broker could read it as another subject, or as two: it loses a CR at the end of a read."""
    return " " in subject or "\t" in subject or "\r" in subject or "\n" in subject


async def _never_called(_message: Msg) -> None:
    """The callback of a subscription with a raw handler."""


async def _secure(transport: TcpTransport, *arguments: Any) -> None:
    await TcpTransport.connect_tls(transport, *arguments)
    secured = transport._io_writer.transport  # type: ignore[union-attr]  # noqa: SLF001  # as nats-py has made it
    secured.get_protocol().connection_made(secured)
