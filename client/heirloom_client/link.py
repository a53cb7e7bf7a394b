"""One connection to NATS, from its opening until it is lost.

nats-py does not reconnect here: it closes for good when credentials expire, and never asks for fresh ones. A lost
link is replaced by another one (`heirloom_client.connections`).
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout

from heirloom_client.credentials import Login
from heirloom_client.errors import Error, InvalidClient, NotPermitted, Unavailable

_QUOTED = re.compile(r'"([^"]*)"')


Handler: TypeAlias = Callable[[bytes], None]
"""Called with each message's body, in the order of their arrival."""


class _Nats(Client):
    """nats-py's client, but subscriptions with a `Handler` keep their order, also among each other.

    nats-py has a queue and a task for each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.handlers: dict[int, Handler] = {}

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        handler = self.handlers.get(sid)
        if handler is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            handler(data)


class ConnectionLost(Unavailable):
    """The connection was lost before the reply came: the request may have been carried out."""


class Link:
    """An open connection; `is_open` is false for ever once it was lost. `opened_at` is the event loop's time."""

    def __init__(self) -> None:
        self._nats = _Nats()
        self.lost = asyncio.Event()
        """Set once the connection is lost or closed."""
        self._asked: dict[asyncio.Future[Error], str] = {}
        self._trouble: Exception | None = None
        self.opened_at = 0.0

    @classmethod
    async def open(cls, address: str, login: Login, name: str, tls: ssl.SSLContext | None, seconds: float) -> "Link":
        """Connect to one server within `seconds`. Raises `InvalidClient` where it refuses, `Unavailable` otherwise."""
        link = cls()
        options: dict[str, Any] = {
            "name": name,
            "inbox_prefix": login.inbox_prefix,
            "user": login.user,
            "password": login.password,
            "error_cb": link._failed,
            "closed_cb": link._closed,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": seconds,
            "ping_interval": 10,  # a server that hangs is left within three of these
            "pending_size": 0,
        }
        if tls is not None:
            options["tls"] = tls
        try:
            async with asyncio.timeout(seconds):
                await link._nats.connect([address], **options)
        except (NatsError, OSError) as error:
            await link.close()
            raise _refusal(link._trouble or error) from None  # nats-py's error may hold the URL with its password
        except BaseException:
            await link.close()
            raise
        if not link.is_open:  # nats-py takes a server that hangs up for one that agrees
            await link.close()
            raise Unavailable("the broker closed the connection at once")
        link.opened_at = asyncio.get_running_loop().time()
        return link

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self._nats.is_connected

    async def request(self, subject: str, body: bytes, headers: Mapping[str, str], seconds: float) -> Msg:
        """The reply. Raises `ConnectionLost`, `NotPermitted`, and `Unavailable` where no reply comes in time."""
        failure: asyncio.Future[Error] = asyncio.get_running_loop().create_future()
        reply = asyncio.ensure_future(
            self._nats.request(subject, body, timeout=seconds, headers=dict(headers) or None),
        )
        self._asked[failure] = subject
        try:
            await asyncio.wait((failure, reply), return_when=asyncio.FIRST_COMPLETED)
            if not reply.done():
                raise failure.result()
            return reply.result()
        except NoRespondersError:
            raise Unavailable("no service answers: it is not running, or it is in another NATS account") from None
        except NatsTimeout:
            raise Unavailable(f"no answer within {seconds:.3g} seconds") from None
        except (NatsError, OSError) as error:
            raise ConnectionLost(_without_secrets(error)) from None
        finally:
            del self._asked[failure]
            reply.cancel()

    async def subscribe(self, subject: str, handler: Handler) -> None:
        """Have `handler` called with every message on that subject. Raises `ConnectionLost`.

        Where the broker does not permit it, the next request raises `NotPermitted`.
        """

        async def early(message: Msg) -> None:  # it came before the handler was known
            handler(message.data)

        try:
            subscription = await self._nats.subscribe(subject, cb=early)
        except (NatsError, OSError) as error:
            raise ConnectionLost(_without_secrets(error)) from None
        self._nats.handlers[subscription._id] = handler  # noqa: SLF001  # the number in the broker's messages

    async def close(self) -> None:
        """Close the connection. Requests under way raise `ConnectionLost`."""
        self.lost.set()
        await self._nats.close()
        self._fail_all(ConnectionLost("the connection was closed"))

    async def _failed(self, error: Exception) -> None:
        """A denied publish or subscription: the broker reports it here alone, and the request gets no reply."""
        text = str(error)
        if "permissions violation" not in text.lower():
            self._trouble = error
            return
        denied = _QUOTED.search(text)
        subject = denied[1].lower() if denied is not None else ""
        found = [failure for failure, asked in self._asked.items() if asked.lower() == subject]
        if "publish" in text.lower():
            what = f"the broker does not let this client publish on {subject!r}: check tenant and client_id"
        elif subject.startswith("_inbox."):
            found, what = list(self._asked), "the broker does not let this client receive in its inbox"
        else:
            found, what = list(self._asked), f"the broker does not let this connection hear {subject!r}: check its role"
        for failure in found:
            if not failure.done():
                failure.set_result(NotPermitted(what))

    async def _closed(self) -> None:
        self.lost.set()
        self._fail_all(ConnectionLost("the connection was lost before a reply came"))

    def _fail_all(self, error: Error) -> None:
        for failure in self._asked:
            if not failure.done():
                failure.set_result(error)


def _refusal(error: Exception) -> Error:
    text = str(error).lower()
    if "authorization violation" in text:
        return InvalidClient(
            "the broker refused the credentials: client_id, secret, key or token is wrong or has ended"
        )
    return Unavailable(f"the broker cannot be reached: {_without_secrets(error)}")


def _without_secrets(error: Exception) -> str:
    if isinstance(error, ConnectionClosedError):
        return "the connection is closed"
    return getattr(error, "strerror", None) or type(error).__name__
