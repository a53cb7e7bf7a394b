"""A reader gets all of its tenant's entries, page by page, and nobody else's."""

import msgspec
import pytest

from events.bus.connection import Connection
from events.log.jetstream_api import Unavailable
from service.revocations.entries import FamilyEnded
from service.revocations.journal import Found, Journal
from service.revocations.pages import MAX_PAGE_BYTES, Page, Pages
from service.revocations.stream import read_info
from tests.service.revocations.feeds import made

COUNT = 900


async def filled(connection: Connection) -> Pages:
    """A feed with entries of two tenants, in turn, and junk."""
    await made(connection)
    journal = Journal(connection)
    await journal.catch_up()
    found = [
        Found(tenant, FamilyEnded(seq=n, at=1.0, reason="request", family_id=f"{tenant}{n:020}", until=2))
        for n in range(1, COUNT + 1)
        for tenant in ("acme", "globex")
    ]
    await journal.append(found)
    await connection.jetstream().publish("feed.entries.acme", b"junk")
    return Pages(connection)


def numbers(page: Page) -> list[int]:
    """The numbers of its entries."""
    return [msgspec.json.decode(entry)["n"] for entry in page.entries]


async def test_page_by_page(connection: Connection) -> None:
    """In order, each entry once; the last page reaches as far as the feed, and none is too large for a message."""
    pages = await filled(connection)
    found: list[int] = []
    page, count = Page("", 0, 0.0, True, []), 0
    while page.more:
        page = await pages.page("acme", page.n, page.feed)
        assert sum(len(entry) for entry in page.entries) <= MAX_PAGE_BYTES
        found += numbers(page)
        count += 1
        assert page.n == found[-1] or not page.more
    assert found == list(range(1, 2 * COUNT, 2)) and count > 2
    assert page.n == (await read_info(connection)).state.last_seq == 2 * COUNT + 1
    assert all(b'"acme' in bytes(entry) for entry in page.entries)
    assert numbers(await pages.page("acme", page.n, page.feed)) == []
    assert (await pages.page("nobody", 0, page.feed)).entries == []


@pytest.mark.parametrize(("after", "feed"), [(10, "another"), (2 * COUNT + 2, None)])
async def test_who_knows_another_feed_begins_anew(connection: Connection, after: int, feed: str | None) -> None:
    """One of another name, or one that had more entries."""
    pages = await filled(connection)
    created = (await read_info(connection)).created
    page = await pages.page("acme", after, feed or created)
    assert numbers(page)[0] == 1 and page.feed == created


async def test_no_feed(connection: Connection) -> None:
    """Before the stream is made, or while its broker is away."""
    with pytest.raises(Unavailable, match="the revocation feed cannot be read now"):
        await Pages(connection).page("acme", 0, "")
