"""Hears the revocation feed, and asks for what was missed: at the start, after a lost connection, and after a gap."""

import asyncio
import logging
import random
import time
from collections.abc import Iterator

import msgspec

from heirloom_client.errors import Error, ServerError
from heirloom_client.link import Link
from heirloom_client.verification.feed import Feed, Page
from heirloom_client.verification.resource import Resource

log = logging.getLogger("heirloom_client")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
SPREAD_SECONDS = 0.25
"""Verifiers that have lost something at the same moment do not ask at the same moment."""
ASK_AGAIN_SECONDS = 600.0
"""After so long it asks all the same: for the issuer's name, and which retired keys are over."""
TIDY_SECONDS = 1.0


class Follower:
    """Keeps `feed` up to date, as long as `run` does."""

    def __init__(self, resource: Resource, feed: Feed) -> None:
        self._resource = resource
        self._feed = feed
        self._heard = asyncio.Event()
        self.trouble: Error | None = None
        """Why the feed cannot be heard now."""
        self.questions = 0
        """How many pages were asked for."""

    async def run(self) -> None:
        """Follow until cancelled, over any number of connections."""
        pauses = _pauses()
        while True:
            try:
                await self._follow(await self._resource.link())
                pauses = _pauses()
            except Error as error:
                self._fail(error)
            await asyncio.sleep(next(pauses))

    async def news(self) -> None:
        """Return when something was heard since the last call."""
        await self._heard.wait()
        self._heard.clear()

    async def _follow(self, link: Link) -> None:
        """Until the connection is lost. Raises `ConnectionLost` where that is so at once."""
        tenant, feed, must_ask = self._resource.tenant, self._feed, asyncio.Event()
        is_first, pauses = feed.name == "", _pauses()
        feed.connected()

        def hear(message: bytes) -> None:
            feed.hear(message, time.monotonic())
            if not feed.is_whole:
                must_ask.set()
            self._heard.set()

        for subject in (f"revocations.{tenant}", f"revocations.{tenant}.>", f"keys.{tenant}"):
            await link.subscribe(subject, hear)
        while not link.lost.is_set():
            if not is_first:
                await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))  # noqa: S311  # no secret
            is_first = False
            try:
                await self._ask(link)
            except Error as error:
                self._fail(error)
                await asyncio.sleep(next(pauses))
                continue
            self.trouble, pauses = None, _pauses()
            self._heard.set()
            if feed.is_whole:
                must_ask.clear()
            await self._until(link.lost, must_ask, time.monotonic() + ASK_AGAIN_SECONDS)

    def _fail(self, error: Error) -> None:
        self.trouble = error
        self._heard.set()
        log.info("the revocation feed is not heard now: %s", error)

    async def _ask(self, link: Link) -> None:
        """Ask for all that is missing. Raises `Error`."""
        while True:
            after, asked_at = self._feed.ask(), time.monotonic()
            self.questions += 1
            page = await self._resource.revocations(link, after, self._feed.name, Page)
            try:
                self._feed.page(page, after, asked_at)
            except (ValueError, msgspec.DecodeError) as error:
                raise ServerError(f"the revocation feed is not what the contract says: {error}") from None
            if not page.more:
                return

    async def _until(self, lost: asyncio.Event, must_ask: asyncio.Event, deadline: float) -> None:
        """Until the connection is lost, something is missing, or it is time; forget meanwhile what has expired."""
        while not lost.is_set() and not must_ask.is_set() and time.monotonic() < deadline:
            self._feed.revoked.forget(time.time())
            waiting = [asyncio.create_task(event.wait()) for event in (lost, must_ask)]
            await asyncio.wait(waiting, timeout=TIDY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()


def _pauses() -> Iterator[float]:
    """Growing ones, for ever; not the same for all verifiers."""
    pause = FIRST_PAUSE_SECONDS
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311  # no secret
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
