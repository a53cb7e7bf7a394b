"""The same objects for code without an event loop (Django, Flask, Celery, scripts): each call waits for its answer.

They run on one event loop in a thread of its own. Use them from any thread, and after a fork.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Self, TypeVar, Unpack

from heirloom_client import client as asynchronous
from heirloom_client.client import Person, Several
from heirloom_client.credentials import PrivateKey
from heirloom_client.device import Device as AsyncDevice
from heirloom_client.fork import renew
from heirloom_client.stores import Store
from heirloom_client.token_source import Changes
from heirloom_client.token_source import TokenSource as AsyncTokenSource
from heirloom_client.tokens import Code, Introspection, Tokens

T = TypeVar("T")


class _Background:
    """The event loop of this process, started when it is first needed."""

    def __init__(self) -> None:
        self.after_fork()
        renew(self)

    def after_fork(self) -> None:
        """The parent's thread is not here."""
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` comes to. It is cancelled when the wait for it is interrupted."""
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="heirloom_client", daemon=True).start()
            return self._loop


_background = _Background()


class Client:
    """As `heirloom_client.Client`; every method waits."""

    def __init__(self, client: asynchronous.Client) -> None:
        self._client = client

    @classmethod
    def connect(  # noqa: PLR0913  # a connection's options, each by its name
        cls,
        url: str | Sequence[str],
        *,
        tenant: str,
        client_id: str,
        secret: str | None = None,
        private_key: PrivateKey | None = None,
        access_token: Callable[[], str] | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = asynchronous.REQUEST_SECONDS,
    ) -> Self:
        """As `heirloom_client.Client.connect`; `access_token` is a plain function, called in a thread."""

        async def given() -> str:
            assert access_token is not None
            return await asyncio.to_thread(access_token)

        return cls(
            asynchronous.Client.connect(
                url,
                tenant=tenant,
                client_id=client_id,
                secret=secret,
                private_key=private_key,
                access_token=None if access_token is None else given,
                tls=tls,
                timeout=timeout,
            )
        )

    def __enter__(self) -> Self:
        """Open the connection. Raises `InvalidClient` and `Unavailable`."""
        _background.run(self._client.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, which all threads share; a later request opens another one."""
        _background.run(self._client.close())

    def issue(self, sub: str, scope: str, *, resource: Several = None, **person: Unpack[Person]) -> Tokens:
        """As `heirloom_client.Client.issue`."""
        return _background.run(self._client.issue(sub, scope, resource=resource, **person))

    def refresh(
        self,
        refresh_token: str,
        *,
        scope: str | None = None,
        resource: Several = None,
        idempotency_key: str | None = None,
    ) -> Tokens:
        """As `heirloom_client.Client.refresh`."""
        work = self._client.refresh(refresh_token, scope=scope, resource=resource, idempotency_key=idempotency_key)
        return _background.run(work)

    def redeem(self, code: str, code_verifier: str, redirect_uri: str | None = None) -> Tokens:
        """As `heirloom_client.Client.redeem`."""
        return _background.run(self._client.redeem(code, code_verifier, redirect_uri))

    def client_credentials(self, scope: str | None = None, *, resource: Several = None) -> Tokens:
        """As `heirloom_client.Client.client_credentials`."""
        return _background.run(self._client.client_credentials(scope, resource=resource))

    def exchange(
        self, subject_token: str, *, scope: str | None = None, resource: Several = None, audience: Several = None
    ) -> Tokens:
        """As `heirloom_client.Client.exchange`."""
        return _background.run(self._client.exchange(subject_token, scope=scope, resource=resource, audience=audience))

    def authorize(
        self,
        client_id: str,
        sub: str,
        scope: str,
        code_challenge: str,
        redirect_uri: str | None = None,
        **more: Unpack[Person],
    ) -> Code:
        """As `heirloom_client.Client.authorize`."""
        return _background.run(self._client.authorize(client_id, sub, scope, code_challenge, redirect_uri, **more))

    def answer_device(
        self, user_code: str, sub: str, *, approved: bool, scope: str | None = None, **more: Unpack[Person]
    ) -> None:
        """As `heirloom_client.Client.answer_device`."""
        _background.run(self._client.answer_device(user_code, sub, approved=approved, scope=scope, **more))

    def device(self, scope: str | None = None, *, resource: Several = None) -> "Device":
        """As `heirloom_client.Client.device`."""
        return Device(_background.run(self._client.device(scope, resource=resource)))

    def revoke(self, token: str, *, hint: str | None = None) -> None:
        """As `heirloom_client.Client.revoke`."""
        _background.run(self._client.revoke(token, hint=hint))

    def introspect(self, token: str, *, hint: str | None = None) -> Introspection:
        """As `heirloom_client.Client.introspect`."""
        return _background.run(self._client.introspect(token, hint=hint))

    def metadata(self) -> dict[str, Any]:
        """As `heirloom_client.Client.metadata`."""
        return _background.run(self._client.metadata())

    def source(self, first: Tokens | None = None, *, store: Store | None = None) -> "TokenSource":
        """As `heirloom_client.Client.source`."""
        return TokenSource(self._client.source(first, store=store))

    def __repr__(self) -> str:
        return f"blocking {self._client!r}"


class TokenSource:
    """As `heirloom_client.TokenSource`; all threads share one refresh."""

    def __init__(self, source: AsyncTokenSource) -> None:
        self._source = source

    def token(
        self, *, min_ttl: float = 1, scope: str | None = None, resource: str | Sequence[str] | None = None
    ) -> Tokens:
        """As `heirloom_client.TokenSource.token`."""
        return _background.run(self._source.token(min_ttl=min_ttl, scope=scope, resource=resource))

    def rejected(self, token: Tokens | str) -> None:
        """As `heirloom_client.TokenSource.rejected`."""
        self._source.rejected(token)

    def changes(self) -> Iterator[Tokens]:
        """As `heirloom_client.TokenSource.changes`, for `for`: each step waits for the next new token."""

        async def begin() -> Changes:
            return self._source.changes()

        return _each(_background.run(begin()))

    def __repr__(self) -> str:
        return f"blocking {self._source!r}"


def _each(changes: Changes) -> Iterator[Tokens]:
    while True:
        yield _background.run(changes.__anext__())


class Device:
    """As `heirloom_client.Device`."""

    def __init__(self, device: AsyncDevice) -> None:
        self.user_code = device.user_code
        self.verification_uri = device.verification_uri
        self.verification_uri_complete = device.verification_uri_complete
        self.expires_in = device.expires_in
        self._device = device

    def poll(self) -> Tokens:
        """As `heirloom_client.Device.poll`."""
        return _background.run(self._device.poll())

    def tokens(self) -> Tokens:
        """As `heirloom_client.Device.tokens`."""
        return _background.run(self._device.tokens())

    def __repr__(self) -> str:
        return f"blocking {self._device!r}"
