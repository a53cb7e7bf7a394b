"""Measures the audit queries on a long log: how long each takes, and how soon it sees a new commit."""

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from nats.aio.client import Client

from bench.machine import Figure
from bench.service.load import percentile
from bench.service.long_log import BEGIN, HEAVY, STEP
from events.log.stored_message import StoredMessage
from projections.read_model import open_for_queries

ASKED = 200
"""How often each query is sent, about something different each time if possible."""
PER_SECOND = 500
SAMPLES = 100
SAMPLE_SECONDS = 0.05
_ANSWER_SECONDS = 30


class QueryTime(Figure, tag="question"):
    """The ms until the answer came over the bus, one query at a time; `about` describes its parameters."""

    query: str
    about: str
    p50_ms: float
    p99_ms: float


class Fresh(Figure, tag="fresh"):
    """The ms until a query with the `min_seq` of a new commit is answered, at `per_second` commits/s."""

    per_second: float
    samples: int
    p50_ms: float
    max_ms: float


class Known(NamedTuple):
    """Random objects to query in the tenant `acme`, and the log's `end`."""

    families: list[str]
    struck: list[str]
    tireless: str
    people: list[str]
    jtis: list[str]
    end: int


_ACME = "tenant = (SELECT id FROM names WHERE text = 'acme')"
_TIRELESS = "SELECT family_id FROM families ORDER BY generation DESC LIMIT 1"


def known(file: Path, seed: int = 1) -> Known:
    """Pick them from a read model; the same seed gives the same ones."""
    chance = random.Random(seed)
    with closing(open_for_queries(file)) as db:

        def some(query: str) -> list[Any]:
            return chance.choices([row[0] for row in db.execute(query)], k=ASKED)

        jtis = "SELECT jti FROM history JOIN families ON families.seq = history.family WHERE jti IS NOT NULL AND"
        return Known(
            families=some(f"SELECT family_id FROM families WHERE {_ACME} AND generation IS NOT NULL"),
            struck=some(f"SELECT family_id FROM families WHERE {_ACME} AND seq IN (SELECT family FROM incidents)"),
            tireless=db.execute(_TIRELESS).fetchone()[0],
            people=some(f"SELECT DISTINCT sub FROM families WHERE {_ACME}"),
            jtis=some(f"{jtis} {_ACME}"),
            end=db.execute("SELECT seq FROM applied").fetchone()[0],
        )


def _queries(it: Known) -> Iterable[tuple[str, str, Callable[[int], dict[str, Any]]]]:
    """Yield each query, its description, and its parameters for the n-th time."""
    chance, end = random.Random(2), it.end
    seqs = [chance.randrange(end // 100, end) for _ in range(ASKED)]
    times = [BEGIN + seq * STEP for seq in seqs]
    yield "position", "", lambda _: {}
    yield "family", "any", lambda n: {"family_id": it.families[n]}
    yield "family", "the one with most commits", lambda _: {"family_id": it.tireless}
    yield "families", "the newest", lambda _: {}
    yield "families", "until any time", lambda n: {"until": times[n]}
    yield "families", "of a person", lambda n: {"sub": it.people[n]}
    yield "families", "of the busiest person and a client", lambda _: {"sub": HEAVY, "client_id": "kiosk"}
    yield "families", "live", lambda _: {"status": "live"}
    yield "families", "live, of a client that has none", lambda _: {"status": "live", "client_id": "tv"}
    yield "families", "expired, until any time", lambda n: {"status": "expired", "until": times[n]}
    yield "families", "revoked", lambda _: {"status": "revoked"}
    yield "revocations", "until any time", lambda n: {"until": times[n]}
    yield "revocations", "for a rare reason", lambda _: {"reason": "forgery"}
    yield "revocations", "a client's, for a reason it has none of", lambda _: {"client_id": "web", "reason": "operator"}
    yield "revocations", "a client's, for a rare reason", lambda _: {"client_id": "kiosk", "reason": "forgery"}
    yield "incidents", "until any time", lambda n: {"until": times[n]}
    yield "incidents", "for a rare reason", lambda _: {"reason": "forgery"}
    yield "token", "by jti, at any time", lambda n: {"jti": it.jtis[n], "at": times[n]}
    yield "token", "by family and generation", lambda n: {"family_id": it.families[n], "generation": 0}
    yield "token", "of the family with most commits", lambda n: {"family_id": it.tireless, "generation": n}
    yield "as_of", "a family, after any commit", lambda _: {"family_id": it.tireless, "seq": end // 2}
    yield "as_of", "the tenant, after any commit", lambda n: {"seq": seqs[n]}
    yield "as_of", "the tenant, at any time", lambda n: {"at": times[n]}
    yield "as_of", "the busiest person, after an early commit", lambda _: {"sub": HEAVY, "seq": end // 10}
    yield "diff", "1,000 commits", lambda n: {"from_seq": seqs[n] - 1000 if seqs[n] > 1000 else 0, "to_seq": seqs[n]}
    yield "diff", "the whole log", lambda _: {"from_seq": 0, "to_seq": end}
    yield "subject", "any", lambda n: {"sub": it.people[n]}
    yield "subject", "the busiest", lambda _: {"sub": HEAVY}
    yield "blast_radius", "any theft", lambda n: {"family_id": it.struck[n]}
    yield "activity", "the newest", lambda _: {}
    yield "search", "a common word", lambda _: {"text": "request"}
    yield "search", "a rare word", lambda n: {"text": f"ticket {n}"}
    yield "search", "common words that never meet", lambda _: {"text": "logout reuse client operator request detected"}
    yield "search", "two common words that never meet", lambda _: {"text": "reuse subject"}


async def measure(client: Client, it: Known, doing: Callable[[str], None]) -> list[QueryTime]:
    """Measure every query, one after the other. Raises `RuntimeError` if one is not answered."""
    found = []
    for query, about, parameters in _queries(it):
        doing(f"asking: {query} {about}")
        times = sorted([await _ask(client, query, parameters(number)) for number in range(ASKED)])
        found.append(QueryTime(query, about, percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000))
    return found


async def fresh(client: Client, log: Client, commits: Iterable[StoredMessage]) -> Fresh:
    """Append `commits` at their pace, and meanwhile query for the newest one."""
    newest, delays = 0, list[float]()

    async def append() -> None:
        nonlocal newest
        for stored in commits:
            if len(delays) == SAMPLES:
                return  # a cancellation may be lost within nats-py
            newest = (await log.jetstream().publish(stored.subject, stored.body)).seq
            await asyncio.sleep(max(0.0, started + (newest - first) / PER_SECOND - perf_counter()))

    started, first = perf_counter(), (await log.jetstream().stream_info("TOKENS")).state.last_seq
    appending = asyncio.create_task(append())
    try:
        while len(delays) < SAMPLES:
            await asyncio.sleep(SAMPLE_SECONDS)
            delays.append(await _ask(client, "families", {"limit": 1, "min_seq": newest}))
        rate = (newest - first) / (perf_counter() - started)
        await appending
    finally:
        appending.cancel()
    return Fresh(rate, SAMPLES, percentile(sorted(delays), 0.5) * 1000, max(delays) * 1000)


async def _ask(client: Client, query: str, parameters: dict[str, Any]) -> float:
    """Return the seconds that it took."""
    body, started = msgspec.json.encode(parameters), perf_counter()
    reply = await client.request(f"audit.acme.{query}", body, timeout=_ANSWER_SECONDS)
    took = perf_counter() - started
    if b'"error"' in reply.data[:10]:
        raise RuntimeError(f"{query} {parameters}: {reply.data.decode()}")
    return took
