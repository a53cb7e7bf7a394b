"""The verifier: is an access token good, here and now? It asks nobody, and knows of revocations."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, NamedTuple, Self, TypeAlias

from heirloom_client.errors import InvalidClient, InvalidToken, NotPermitted, Stale, StoreError, Unavailable
from heirloom_client.tokens import Introspection
from heirloom_client.verification import snapshot
from heirloom_client.verification.access_token import Claims, Expected, claims_of
from heirloom_client.verification.feed import Feed
from heirloom_client.verification.follower import Follower
from heirloom_client.verification.resource import Resource

log = logging.getLogger("heirloom_client")

OnStale: TypeAlias = Literal["reject", "introspect", "accept"]
Introspect: TypeAlias = Callable[[str], Awaitable[Introspection]]
MAX_LEEWAY_SECONDS = 300.0
"""The feed's entries are kept so long after the last token has expired."""
SAVE_SECONDS = 30.0


class Staleness(NamedTuple):
    """After `after` seconds without fresh news, `then`: with `accept` for at most `accept_for` seconds more."""

    then: OnStale
    after: float
    accept_for: float


class Verifier:
    """Verifies access tokens of one tenant for one resource. `Verifier.follow` makes one; it is of one event loop."""

    def __init__(
        self,
        resource: Resource,
        feed: Feed,
        audience: str,
        leeway: float,
        staleness: Staleness,
        introspect: Introspect | None,
    ) -> None:
        self._tenant = resource.tenant
        self._feed = feed
        feed.stale_after = staleness.after
        self._follower = Follower(resource, feed)
        self._audience, self._leeway = audience, leeway
        self._staleness = staleness
        self._introspect = introspect
        self._snapshot: Path | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def follow(  # noqa: PLR0913  # each by its name
        cls,
        resource: Resource,
        *,
        audience: str,
        leeway: float = 30.0,
        on_stale: OnStale = "reject",
        stale_after: float = 5.0,
        accept_for: float = 0.0,
        introspect: Introspect | None = None,
        snapshot_file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """A verifier that hears keys and revocations from now on, and knows those from before.

        `audience` is this resource's own name, one of a token's `aud`. Clocks may differ by `leeway` seconds. Without a
        heartbeat for `stale_after` seconds a revocation may be unknown: then `on_stale` says what becomes of a token,
        `accept` for at most `accept_for` seconds, `introspect` by asking with that callback (`Client.introspect` of a
        client with `may_introspect`), in `check` alone.

        With a `snapshot_file` it begins with what another process knew last. Raises `InvalidClient`, `NotPermitted`,
        `Unavailable` where it hears nothing and has no snapshot, `StoreError`, and `ValueError` for impossible options.
        """
        if not 0 <= leeway <= MAX_LEEWAY_SECONDS:
            raise ValueError(f"leeway must be 0 to {MAX_LEEWAY_SECONDS:.0f} seconds: revocations are kept so long")
        if (on_stale == "introspect") != (introspect is not None) or (on_stale == "accept") != (accept_for > 0):
            raise ValueError("introspect goes with on_stale='introspect', accept_for with on_stale='accept'")
        path = None if snapshot_file is None else _path(snapshot_file)
        known = None if path is None else await asyncio.to_thread(snapshot.read, path, resource.tenant)
        staleness = Staleness(on_stale, stale_after, accept_for)
        verifier = cls(resource, known or Feed(), audience, leeway, staleness, introspect)
        verifier._snapshot = path
        try:
            await verifier._start(resource.seconds, known is not None)
        except BaseException:
            await verifier.close()
            raise
        return verifier

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def fresh(self) -> bool:
        """Whether every revocation is known that is older than `stale_after` seconds. For health endpoints."""
        return self._feed.is_whole and time.monotonic() < self._feed.as_of + self._staleness.after

    def verify(self, token: str) -> Claims:
        """The claims of a good access token. Asks nobody.

        Raises `InvalidToken` (401), and `Stale` (503) where a revocation may be unknown.
        """
        claims = self._known_good(token)
        if not self.fresh and not self._accepts_all_the_same():
            raise self._stale()
        return claims

    async def check(self, token: str) -> Claims:
        """As `verify`, but where that would be `Stale` and `on_stale` is `introspect`, the service is asked.

        Raises `InvalidToken`, `Stale`, and what `introspect` raises.
        """
        claims = self._known_good(token)
        if self.fresh or self._accepts_all_the_same():
            return claims
        if self._introspect is None:
            raise self._stale()
        if not (await self._introspect(token)).active:
            raise InvalidToken("the service calls it inactive")
        return claims

    async def close(self) -> None:
        """Hear nothing any more, and write the snapshot."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._save()

    def _known_good(self, token: str) -> Claims:
        """The claims, if the token is good as far as is known. Raises `InvalidToken`."""
        payload = self._feed.keys.signed(token)
        claims = claims_of(payload, Expected(self._feed.issuer, self._audience, self._leeway), time.time())
        if self._feed.revoked.holds(claims):
            raise InvalidToken("it was revoked")
        return claims

    def _accepts_all_the_same(self) -> bool:
        _, after, accept_for = self._staleness
        return accept_for > 0 and time.monotonic() < self._feed.as_of + after + accept_for

    def _stale(self) -> Stale:
        why = self._follower.trouble
        return Stale("no fresh news of revocations" + (f": {why.description}" if why is not None else ""))

    async def _start(self, seconds: float, has_snapshot: bool) -> None:
        """Follow, and wait for the first fresh news."""
        self._tasks.append(asyncio.create_task(self._follower.run()))
        try:
            async with asyncio.timeout(seconds):
                while not self.fresh:
                    await self._follower.news()
                    if isinstance(self._follower.trouble, InvalidClient | NotPermitted):
                        raise self._follower.trouble
        except TimeoutError:
            if not has_snapshot:
                raise self._follower.trouble or Unavailable("the revocation feed has no heartbeat") from None
        if self._snapshot is not None:
            self._tasks.append(asyncio.create_task(self._keep_saving()))

    async def _keep_saving(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self._save()

    async def _save(self) -> None:
        """Write the snapshot, if anything is known; what hinders it is logged."""
        if self._snapshot is None or not self._feed.name:
            return
        content = snapshot.encode(self._feed, self._tenant)
        try:
            await asyncio.to_thread(snapshot.write, self._snapshot, content)
        except StoreError as error:
            log.warning("%s", error)

    def __repr__(self) -> str:
        return f"Verifier(tenant={self._tenant!r}, audience={self._audience!r}, fresh={self.fresh})"


def _path(name: str | os.PathLike[str]) -> Path:
    return Path(name).expanduser()
