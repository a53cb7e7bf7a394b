"""Finding other people's devices by trying user codes (RFC 8628 §5.1), on a real broker with two replicas."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from events.bus.connect import connect
from events.bus.connection import Connection
from service.errors import OAuthError
from service.keys.user_code import ALPHABET, LENGTH
from service.replicas import user_code_guesses
from service.replicas.user_code_guesses import MAX_GUESSES_OF_PERSON, STREAM, UserCodeGuesses
from tests.broker import Broker

LOGIN, THIEF = "login", "mallory"


@pytest.fixture
async def two(nats_server: Broker, connection: Connection) -> AsyncIterator[tuple[UserCodeGuesses, UserCodeGuesses]]:
    """Those of two replicas."""
    other = await connect(nats_server.url, "other")
    replicas = UserCodeGuesses(connection), UserCodeGuesses(other)
    for replica in replicas:
        await replica.start(1)
    yield replicas
    await other.close()


async def _tried(replica: UserCodeGuesses, tenant: str = "acme", client_id: str = LOGIN, sub: str = THIEF) -> bool:
    """Whether one more code would be looked at."""
    try:
        await replica.count(tenant, client_id, sub)
    except OAuthError as refusal:
        assert (refusal.code, refusal.headers()["Nats-Service-Error-Code"]) == ("slow_down", "429")
        return False
    return True


def test_what_a_person_may_try_finds_nothing() -> None:
    """RFC 8628 §5.1: 20^8 codes, and five tries: one chance in 2^32 for one device."""
    assert len(set(ALPHABET)) ** LENGTH > MAX_GUESSES_OF_PERSON * 2**32


async def test_a_person_tries_at_every_replica_at_once(two: tuple[UserCodeGuesses, UserCodeGuesses]) -> None:
    """Together they look at no more than the bound, and others do not feel it: it counts before a code is looked at."""
    tries = await asyncio.gather(*(_tried(two[number % 2]) for number in range(40)))
    assert sum(tries) == MAX_GUESSES_OF_PERSON
    one, other = two
    assert not await _tried(one) and not await _tried(other)
    assert await _tried(other, sub="alice")
    assert await _tried(other, client_id="kiosk") and await _tried(other, tenant="globex")


async def test_a_thief_of_many_names(
    two: tuple[UserCodeGuesses, UserCodeGuesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All people of one client have a bound together, on all replicas; other clients and tenants do not feel it."""
    monkeypatch.setattr(user_code_guesses, "MAX_GUESSES_OF_CLIENT", 12)
    tries = await asyncio.gather(*(_tried(two[number % 2], sub=f"name{number}") for number in range(12)))
    assert all(tries)
    many = await asyncio.gather(*(_tried(two[number % 2], sub=f"more{number}") for number in range(30)))
    assert not any(many)
    assert not await _tried(two[0], sub="alice")
    assert await _tried(two[0], client_id="kiosk") and await _tried(two[1], tenant="globex")


async def test_who_is_right_has_not_guessed(two: tuple[UserCodeGuesses, UserCodeGuesses]) -> None:
    """However many devices somebody approves; and who was refused for the client's bound has used up nothing."""
    one, other = two
    for _ in range(3 * MAX_GUESSES_OF_PERSON):
        await other.take_back(await one.count("acme", LOGIN, "alice"))
    assert [await _tried(one, sub="alice") for _ in range(MAX_GUESSES_OF_PERSON + 1)] == [
        True
    ] * MAX_GUESSES_OF_PERSON + [False]


async def test_it_is_forgotten_in_ten_minutes_and_bounded(
    connection: Connection, two: tuple[UserCodeGuesses, UserCodeGuesses]
) -> None:
    """In memory, by the broker's clock: what a caller makes grow has an end."""
    config = (await connection.jetstream().stream_info(STREAM)).config
    assert (config.storage, config.max_age, config.max_msgs) == ("memory", 600, user_code_guesses.MAX_GUESSES)
    assert config.max_msgs_per_subject == MAX_GUESSES_OF_PERSON and config.discard == "new"


async def test_nothing_of_a_person_is_in_a_subject_but_a_digest(
    connection: Connection, two: tuple[UserCodeGuesses, UserCodeGuesses]
) -> None:
    """A `sub` may hold anything; the subject that counts it holds no wildcard and no dot of it."""
    for sub in ("a.b", "*", ">", "x" * 255, "Zoë\u200d"):
        assert await _tried(two[0], sub=sub)
    found = (await connection.jetstream().stream_info(STREAM, subjects_filter=">")).state.subjects
    assert found is not None and len(found) == 5
    assert all(subject.count(".") == 4 and subject.rpartition(".")[2].isalnum() for subject in found)
