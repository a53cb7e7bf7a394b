"""Guessing user codes of other people's devices (RFC 8628 §5.1), on a real broker with two replicas."""

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
    """The counters of two replicas."""
    other = await connect(nats_server.url, "other")
    replicas = UserCodeGuesses(connection), UserCodeGuesses(other)
    for replica in replicas:
        await replica.start(1)
    yield replicas
    await other.close()


async def _tried(replica: UserCodeGuesses, tenant: str = "acme", client_id: str = LOGIN, sub: str = THIEF) -> bool:
    """Whether one more code would be looked up."""
    try:
        await replica.count(tenant, client_id, sub)
    except OAuthError as refusal:
        assert (refusal.code, refusal.headers()["Nats-Service-Error-Code"]) == ("slow_down", "429")
        return False
    return True


def test_a_persons_guesses_find_nothing() -> None:
    """RFC 8628 §5.1: with 20^8 codes and five guesses the chance for one device is below 1 in 2^32."""
    assert len(set(ALPHABET)) ** LENGTH > MAX_GUESSES_OF_PERSON * 2**32


async def test_a_person_guesses_at_every_replica_at_once(two: tuple[UserCodeGuesses, UserCodeGuesses]) -> None:
    """The bound holds for all replicas together and for that person alone: a guess counts before the lookup."""
    tries = await asyncio.gather(*(_tried(two[number % 2]) for number in range(40)))
    assert sum(tries) == MAX_GUESSES_OF_PERSON
    one, other = two
    assert not await _tried(one) and not await _tried(other)
    assert await _tried(other, sub="alice")
    assert await _tried(other, client_id="kiosk") and await _tried(other, tenant="globex")


async def test_a_thief_with_many_names(
    two: tuple[UserCodeGuesses, UserCodeGuesses], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The people of one client share a bound at all replicas; other clients and tenants are not affected."""
    monkeypatch.setattr(user_code_guesses, "MAX_GUESSES_OF_CLIENT", 12)
    tries = await asyncio.gather(*(_tried(two[number % 2], sub=f"name{number}") for number in range(12)))
    assert all(tries)
    many = await asyncio.gather(*(_tried(two[number % 2], sub=f"more{number}") for number in range(30)))
    assert not any(many)
    assert not await _tried(two[0], sub="alice")
    assert await _tried(two[0], client_id="kiosk") and await _tried(two[1], tenant="globex")


async def test_a_correct_code_is_no_guess(two: tuple[UserCodeGuesses, UserCodeGuesses]) -> None:
    """A person may approve any number of devices."""
    one, other = two
    for _ in range(3 * MAX_GUESSES_OF_PERSON):
        await other.take_back(await one.count("acme", LOGIN, "alice"))
    assert [await _tried(one, sub="alice") for _ in range(MAX_GUESSES_OF_PERSON + 1)] == [
        True
    ] * MAX_GUESSES_OF_PERSON + [False]


async def test_guesses_are_forgotten_in_ten_minutes_and_bounded(
    connection: Connection, two: tuple[UserCodeGuesses, UserCodeGuesses]
) -> None:
    """They are in memory, by the broker's clock."""
    config = (await connection.jetstream().stream_info(STREAM)).config
    assert (config.storage, config.max_age, config.max_msgs) == ("memory", 600, user_code_guesses.MAX_GUESSES)
    assert config.max_msgs_per_subject == MAX_GUESSES_OF_PERSON and config.discard == "new"


async def test_a_subject_contains_only_a_digest_of_the_person(
    connection: Connection, two: tuple[UserCodeGuesses, UserCodeGuesses]
) -> None:
    """A `sub` may contain any character; the subject gets none of its dots or wildcards."""
    for sub in ("a.b", "*", ">", "x" * 255, "Zoë\u200d"):
        assert await _tried(two[0], sub=sub)
    found = (await connection.jetstream().stream_info(STREAM, subjects_filter=">")).state.subjects
    assert found is not None and len(found) == 5
    assert all(subject.count(".") == 4 and subject.rpartition(".")[2].isalnum() for subject in found)
