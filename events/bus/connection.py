"""The connection to NATS that everything here uses."""

import asyncio
import contextlib
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Coroutine
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
from events.bus.parser import Parser, Taker
from events.bus.peer import owner
from events.task_cancellation import end

T = TypeVar("T")

log = logging.getLogger("heirloom.bus")

LINES_BYTES = len(b"NATS/1.0\r\n\r\n")
"""What headers have around them."""
NOT_NATS = "what answers there does not speak NATS"
MAX_SUBJECTS = 4000
"""Characters. For a line of more than 4096 a broker ends the connection, unless it is told otherwise."""
LINE_ENDS = {ord("\r"): " ", ord("\n"): " "}
ALSO_ANY_BYTE = "surrogateescape"
"""How `as_text` keeps the bytes that are no text."""

BROKER_OWNER = "HEIRLOOM_BROKER_OWNER"
"""In the environment: the id of the user whose process the broker must be, here. Nobody else is told anything."""
PINNED_CERTIFICATE, SHOWN_KEY = "HEIRLOOM_TLS_CERT", "HEIRLOOM_TLS_KEY"
"""In the environment: the file of the one certificate the broker may have, whatever its name and whoever signed it; and
the key with which to show the same certificate, where the broker asks for one."""


class Denied(Exception):
    """The broker says that these credentials may not ask that."""


class NotOurBroker(NatsError):
    """Somebody else's process listens where the broker should; it has been shown nothing."""


class Connection(Client):
    """A NATS connection that one malformed message cannot end, and whose hot paths are short.

    nats-py decodes subjects and headers inside its read loop, and an undecodable byte there ends the loop for good:
    any client allowed to publish one request could silence a whole replica. Here a subject may hold any byte that the
    broker lets into it, and whatever a message does to those who take it, the loop goes on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.jetstream_api = "$JS.API"
        """Under what name the log's stream is reached."""
        self.takers: dict[int, Taker] = {}
        """Who `listen`s, by the number of the subscription."""
        self.denied = asyncio.Event()
        """The broker has said that these credentials may not do something; what was asked gets no answer."""
        self.when_denied: Callable[[str], None] | None = None
        """Receives each of those refusals, in the broker's words; then nobody else does."""
        self._was_connected = False
        self._left: set[str] = set()
        self._ps = Parser(self)

    def outlast_brokers(self) -> None:
        """From now on wait for a broker that comes and goes, as a patient connection does from the beginning."""
        self.options |= {"allow_reconnect": True, "max_reconnect_attempts": -1}

    async def unless_denied(self, asking: Coroutine[Any, Any, T]) -> T:
        """What comes of asking. Raises `Denied` at once, where waiting for an answer would be in vain."""
        asked = asyncio.create_task(asking)
        tasks = asked, asyncio.create_task(self.denied.wait())
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise Denied
            return asked.result()
        finally:
            await end(tasks)

    async def listen(self, subject: str, take: Taker) -> Subscription:
        """Have the reading loop itself call `take` with every message, past nats-py's queue and task.

        For what is done within microseconds.
        """
        subscription = await self.subscribe(subject, cb=_untaken)
        self.hand_over(subscription, take)
        return subscription

    def hand_over(self, subscription: Subscription, take: Taker) -> None:
        """As `listen`, with a subscription that is there already: its own callback hears no more."""
        self.takers[subscription._id] = take  # noqa: SLF001  # what the broker calls it

    async def stop_listening(self, subscription: Subscription) -> None:
        """The end of what `listen` began."""
        del self.takers[subscription._id]  # noqa: SLF001  # as above
        await subscription.unsubscribe()

    async def _connect_to_server(self, server: Srv) -> None:
        """As nats-py's, whose stream does not learn that it is over TLS: asyncio would warn of that at each end."""
        await super()._connect_to_server(server)
        if isinstance(self._transport, TcpTransport):
            self._transport.connect_tls = partial(_secure, self._transport)  # type: ignore[method-assign]

    async def _select_next_server(self) -> None:
        """Close what is left of the attempt before; nats-py leaves that to the garbage collector."""
        if self._transport is not None:
            self._transport.close()  # type: ignore[no-untyped-call]  # as nats-py has it
        await super()._select_next_server()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """As nats-py's, and for good.

        That cancels the search for a broker, which is forgotten when one answers or refuses in the same moment: the
        search, or what it has found, would go on for ever, and with it the process.
        """
        while (searching := self._reconnection_task) not in (None, asyncio.current_task()) and not searching.done():
            await end((searching,))
        self._write_pending()
        await super()._close(status, do_cbs)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Send PING after what is pending: nats-py's overtakes it, so that a subscription follows its own `flush`."""
        if self.is_connected:
            self._write_pending()
        await super()._send_ping(future)

    def _write_pending(self) -> None:
        """Write it before nats-py does at the very end, also to a lost connection; uvloop raises an error then."""
        waiting, self._pending, self._pending_data_size = self._pending, [], 0
        if waiting and self.is_connected and self._transport is not None:
            with contextlib.suppress(RuntimeError):  # lost, and not noticed yet
                self._transport.writelines(waiting)

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """As nats-py's, at half its price: header names are not checked again, which are constants here."""
        if _misleads(subject) or _misleads(reply) or len(subject) + len(reply) > MAX_SUBJECTS:
            raise BadSubjectError
        # added up and not formatted: of nats-py's own names, which are an enumeration's, that would give another text
        lines = "".join([name + ": " + value + "\r\n" for name, value in headers.items()]) if headers else ""
        if len(lines) + len(payload) > self._max_payload - LINES_BYTES:
            raise MaxPayloadError  # the broker counts the headers in, and would end the connection for good
        if headers and not lines.count("\n") == lines.count("\r") == len(headers):  # a value holds a line's end
            clean = {name.translate(LINE_ENDS): value.translate(LINE_ENDS) for name, value in headers.items()}
            await self.publish(subject, payload, reply, clean)
            return
        if self._status != Client.CONNECTED:
            await super().publish(subject, payload, reply, headers)
            return
        if lines:
            head = f"NATS/1.0\r\n{lines}\r\n".encode()
            sizes = f"HPUB {subject} {reply} {len(head)} {len(head) + len(payload)}\r\n"
            command = b"".join((sizes.encode(errors=ALSO_ANY_BYTE), head, payload, b"\r\n"))
        else:
            sizes = f"PUB {subject} {reply} {len(payload)}\r\n"
            command = b"".join((sizes.encode(errors=ALSO_ANY_BYTE), payload, b"\r\n"))
        await self._send_command(command)
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    def headers_of(self, lines: bytes | None) -> dict[str, str]:
        """A message's headers, as a taker gets them, by their names. Raises `UnreadableHeaders`, before parsing."""
        if not lines:
            return {}
        if (reason := unreadable(lines)) is not None:
            raise UnreadableHeaders(reason)
        return self._parse_header_lines(lines.partition(b"\r\n")[2])

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """As nats-py's, of what it can read; `legible` says of what it cannot."""
        if headers and (reason := unreadable(headers)) is not None:
            return Unread(reason)
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError):
            return Unread("the message's headers are malformed")

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers or b"")
        except Exception as error:  # whatever a message does to its taker, the next ones are others'
            self.malformed(len(data), error)

    def _require_owner(self, expected: int) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        connected = writer.get_extra_info("socket") if writer is not None else None
        if connected is None or (found := owner(connected)) != expected:
            uri = self._current_server.uri if self._current_server is not None else None
            where = f"{uri.hostname}:{uri.port}" if uri is not None else "the broker's address"
            whose = "an unknown user" if connected is None or found is None else f"user {found}"
            raise NotOurBroker(
                f"what listens on {where} is a process of {whose}, and the broker is one of user {expected}:"
                " nothing was said to it; find out who took that port"
            )

    async def connect(self, *arguments: Any, **options: Any) -> None:
        """As nats-py's, which leaves the socket open where it fails.

        Raises `BrokerTooOld`, before it has shown that broker any credentials.
        """
        try:
            await super().connect(*arguments, **options)
        except BaseException:
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]  # as nats-py has it
            raise
        self._was_connected = True

    async def _process_connect_init(self) -> None:
        """As nats-py's, whose search for a broker would end with any error that is not one of NATS."""
        try:
            await super()._process_connect_init()
        except ssl.SSLError:  # one of an untrusted certificate is a ValueError too
            raise
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise NatsError(NOT_NATS) from error
        if not isinstance(self._max_payload, int):
            raise NatsError(NOT_NATS)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        """Every server tells its version before it is told anything; one that is too old is left for another, and where
        all that were asked for are, `BrokerTooOld` is raised.

        Nor is anything told to who is not the broker, where its owner is known. Raises `NotOurBroker`.
        """
        if initial_connection and (expected := os.environ.get(BROKER_OWNER)):
            self._require_owner(int(expected))
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
        if is_new:  # it is tried again and again
            log.error("%s", reason)
        raise BrokerLeft(reason)

    def _named(self) -> set[str]:
        """The servers that were asked for, without those that these have told of."""
        return {_address(server) for server in self._server_pool if not server.discovered}

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        """As nats-py's, whatever bytes the subjects hold."""
        return self.msg_class(self, as_text(subject), as_text(reply), data, headers, _sid=sid)

    async def _process_err(self, err_msg: str) -> None:
        if PERMISSIONS_ERR in err_msg:
            self.denied.set()
            if self.when_denied is not None:
                self.when_denied(err_msg)
                return
        await super()._process_err(err_msg)

    def malformed(self, size: int, error: Exception) -> None:
        """A message of so many bytes is dropped, and nothing else."""
        log.warning("dropped a malformed message", extra={"bytes": size, "error": type(error).__name__})


def as_text(subject: bytes) -> str:
    """A subject, which may hold any byte; `publish` makes the very same bytes of it again."""
    return subject.decode(errors=ALSO_ANY_BYTE)


def _address(server: Srv) -> str:
    return f"{server.uri.hostname}:{server.uri.port}"


def _misleads(subject: str) -> bool:
    """Whether the broker could take it for another subject, or for two: it loses a CR where its reading is cut."""
    return " " in subject or "\t" in subject or "\r" in subject or "\n" in subject


async def _untaken(_message: Msg) -> None:
    """What a subscription that has a taker never hears."""


async def _secure(transport: TcpTransport, *arguments: Any) -> None:
    await TcpTransport.connect_tls(transport, *arguments)
    secured = transport._io_writer.transport  # type: ignore[union-attr]  # noqa: SLF001  # as nats-py has made it
    secured.get_protocol().connection_made(secured)


def _pinned(certificate: str, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is known by itself
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    if key is not None:
        context.load_cert_chain(certificate, key)
    return context


async def connect(
    url: str,
    name: str,
    *,
    inbox_prefix: str = "_INBOX",
    nkey_seed: str | None = None,
    patient: bool = True,
    echo: bool = True,
    on_change: Callable[[str], Awaitable[None]] | None = None,
) -> Connection:
    """Connect to `url`, credentials included, or to any of several with commas between, a cluster's.

    With an `nkey_seed` the connection proves itself by signing what the broker made up, which is of no use to others.
    `name` is what the broker's monitoring shows; whom to trust with `tls://`, the environment or the system tells.
    `patient` connections wait for a broker that comes and goes, for ever; others raise what nats-py raises at the
    last of their servers. Both raise `BrokerTooOld` where all servers are, and others where none of the rest will do.
    Without `echo` a connection does not hear what it publishes itself.
    `on_change` hears `disconnected`, `reconnected` and `closed`.
    """

    def changed(what: str) -> Callable[[], Awaitable[None]]:
        async def report() -> None:
            log.info("connection %s", what, extra={"connection": name})
            if on_change is not None:
                await on_change(what)

        return report

    async def failed(error: Exception) -> None:
        log.info("connection trouble: %s", type(error).__name__, extra={"connection": name})

    options: dict[str, Any] = {
        "name": name,
        "inbox_prefix": inbox_prefix,
        "nkeys_seed_str": nkey_seed,
        "error_cb": failed,
        "disconnected_cb": changed("disconnected"),
        "reconnected_cb": changed("reconnected"),
        "closed_cb": changed("closed"),
        "reconnect_time_wait": 0.1,
        "max_reconnect_attempts": -1 if patient else 1,
        "allow_reconnect": patient,
        "no_echo": not echo,
        # what cannot be sent now is refused now: a request that waits for a broker to return is answered too late
        "pending_size": 0,
        # subjects are made here of checked parts, or come from the broker, which has checked them
        "skip_subject_validation": True,
        "connect_timeout": 2,
        "ping_interval": 2,  # a server that hangs is left for another one within three of these
        "max_outstanding_pings": 2,
        "drain_timeout": 10,
    }
    if certificate := os.environ.get(PINNED_CERTIFICATE):
        url = url.replace("nats://", "tls://")
        options["tls"] = _pinned(certificate, os.environ.get(SHOWN_KEY))
    faults: list[Exception] = []
    for servers in [url.split(",")] if patient else [[server] for server in url.split(",")]:
        try:
            return await _connected(servers, options)
        except (BrokerTooOld, NatsError, OSError) as fault:
            faults.append(fault)
    raise next((fault for fault in faults if isinstance(fault, BrokerTooOld)), faults[-1])


async def _connected(servers: list[str], options: dict[str, Any]) -> Connection:
    connection = Connection()
    await connection.connect(servers, **options)
    return connection
