"""A replica's registry on a log in memory: commits of each kind, in any order."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates import key as key_events
from events.aggregates import role as role_events
from events.aggregates import settings as tenant_events
from events.aggregates import subject as subject_events
from events.aggregates.aggregate_names import Aggregate
from events.aggregates.book import FIRST_BOOK
from events.aggregates.commit import VERSION, Codec, Commit, UnreadableCommit
from events.aggregates.key import KeyState
from events.aggregates.settings import ClientSettings, TenantSettings
from events.aggregates.subject import SubjectBlocked, SubjectState
from events.fairness.token_buckets import Bucket
from events.log.consumer_reader import Batch
from events.log.grammar import read_commit
from events.log.jetstream_api import Unavailable
from events.log.log import Head, Log
from events.log.stored_message import StoredMessage
from events.token_format import TokenKind
from service.clock import FOR_EVER
from service.keys import keyring
from service.keys.keyring import Keyring
from service.keys.mac_tokens import MacTokens
from service.keys.signing_key import SigningKey
from service.keys.vouchers import Vouchers
from service.registry import registry as registry_module
from service.registry.blocked_subjects import NOTHING, BlockState
from service.registry.named_role import MAX_CONNECTIONS, MAX_CONNECTIONS_OF_A_PASSWORD
from service.registry.registry import Registry
from service.registry.tenant import LEEWAY_SECONDS, Client, KeyMismatch, Tenant, TenantKey
from tests.service.decide.given import START, at

KEYS = Keyring({1: b"a" * 32, 2: b"b" * 32, 3: b"c" * 32})


def stored(seq: int, place: str, codec: Codec[Any, Any], events: tuple[Any, ...], state: Any) -> StoredMessage:
    """A first commit of that aggregate, `seq` seconds after the start."""
    return StoredMessage(seq, place, codec.encode(Commit(VERSION, "id", at(seq), "operator", None, 0, events, state)))


def tenant(seq: int, settings: TenantSettings = TenantSettings(), longest: int | None = None) -> StoredMessage:  # noqa: B008
    state = tenant_events.TenantState(settings, longest_ttl=longest)
    return stored(seq, "tokens.acme.tenant", tenant_events.codec, (tenant_events.TenantConfigured(settings),), state)


def client(seq: int, client_id: str = "web", **state: Any) -> StoredMessage:
    made = client_events.ClientState(**({"settings": ClientSettings()} | state))
    events = (client_events.ClientConfigured(made.settings),)
    return stored(seq, f"tokens.acme.client.{client_id}", client_events.codec, events, made)


def role(seq: int, revoked: bool = False, name: str = "eve") -> StoredMessage:
    state, added = role_events.RoleState("edge", "sha256:x", revoked), role_events.RoleAdded("edge", "sha256:x")
    return stored(seq, f"tokens.acme.role.{name}", role_events.codec, (added,), state)


def signing(number: int, secret: int = 1) -> SigningKey:
    return SigningKey(KEYS, "acme", secret, number, "ES256")


def key(seq: int, number: int, status: str, secret: int = 1, kid: str | None = None) -> StoredMessage:
    made = signing(number, secret)
    state = KeyState("ES256", secret, number, made.public_jwk(), cast("Any", status))
    events = (key_events.KeyPublished("ES256", secret, number, made.public_jwk()),)
    return stored(seq, f"tokens.acme.key.{kid or made.kid}", key_events.codec, events, state)


def mac_key(seq: int, secret: int) -> StoredMessage:
    events = (key_events.KeyPublished("HS256", secret, 0, {}),)
    return stored(seq, f"tokens.acme.key.mac-{secret}", key_events.codec, events, KeyState("HS256", secret, 0, {}))


def blocked(seq: int, sub: str = "alice") -> StoredMessage:
    place = aggregate_names.subject("acme", sub).live
    return stored(seq, place, subject_events.codec, (SubjectBlocked(sub),), SubjectState(sub, blocked=True))


class Table:
    """A log with the last commit of each subject; `asked` lists the reads of its leader."""

    def __init__(self, *commits: StoredMessage) -> None:
        self.commits = {each.subject: each for each in commits}
        self.asked: list[str] = []
        self.away = 0
        self.foreign_on_top = 0
        self.announced = FIRST_BOOK

    async def newest(self, filter: str) -> StoredMessage | None:
        """As `Log.newest`, for keys."""
        self.asked.append(filter)
        prefix = filter.removesuffix("*")
        found = [each for place, each in self.commits.items() if place.startswith(prefix)]
        return max(found, default=None, key=lambda each: each.seq)

    async def head(self, aggregate: Aggregate) -> Head:
        """As `Log.head`, with `foreign_on_top` messages above; fails `away` times."""
        self.asked.append(aggregate.live)
        if self.away:
            self.away -= 1
            raise Unavailable("no leader")
        last = self.commits.get(aggregate.live)
        found = None if last is None else read_commit(last)
        assert found is None or isinstance(found, Commit)
        return Head(last, found, (last.seq if last else 0) + self.foreign_on_top)


def registry(*commits: StoredMessage, keys: Keyring = KEYS, log: Table | None = None) -> Registry:
    """A registry that has applied these commits."""
    made = Registry(cast("Log", log or Table(*commits)), keys)
    for each in commits:
        made.apply(each)
    return made


def of_acme(made: Registry) -> Tenant:
    known = made.known_tenant("acme")
    assert known is not None
    return known


# a tenant


def test_a_new_tenant() -> None:
    """It has no keys or clients, its own tokens of each kind, and the oldest secret for them."""
    new = Tenant("acme", Keyring({2: b"b" * 32, 3: b"c" * 32}))
    assert (new.name, new.settings, new.configured, new.signing) == ("acme", TenantSettings(), None, None)
    assert (new.keys, new.clients, new.roles, new.public_replies) == ({}, {}, {}, {})
    assert (new.longest_ttl, new.mac_key, new.issuer) == (0, 2, "urn:heirloom:acme")
    new.settings = TenantSettings(issuer="https://acme.example")
    assert new.issuer == "https://acme.example"
    buckets = new.from_edges, new.public, new.looked_for
    assert {type(bucket) for bucket in buckets} == {Bucket} and len({id(bucket) for bucket in buckets}) == 3


@pytest.mark.parametrize("kind", ["refresh", "code", "device", "access"])
def test_a_tenants_tokens_belong_to_its_name_and_kind(kind: TokenKind) -> None:
    """No token of another tenant or kind is recognised."""
    new = Tenant("acme", KEYS)
    made = {
        "refresh": new.refresh_tokens,
        "code": new.codes,
        "device": new.device_codes,
        "access": new.opaque_tokens,
    }[kind]
    family = "f" * 22
    assert made.mint(1, family, 7, "seed") == MacTokens(KEYS, "acme", kind).mint(1, family, 7, "seed")
    assert new.vouchers.vouch(1, "seed", {}) == Vouchers(KEYS, "acme").vouch(1, "seed", {})


def known_key(number: int, status: str, since: float = 0) -> TenantKey:
    made = signing(number)
    return TenantKey(made, KeyState("ES256", 1, number, {}, cast("Any", status)), at(since), 1)


def test_the_next_key_is_the_highest_one_above_the_active_ones() -> None:
    """There is none if nothing is published, or if an active key is above it."""
    new = Tenant("acme", KEYS)
    assert new.next_key() is None
    for number, status, following in ((1, "next", 1), (3, "next", 3), (2, "active", 3), (4, "retired", 3)):
        new.keys[f"{number}"] = known_key(number, status)
        found = new.next_key()
        assert found is not None and found.state.number == following
    new.keys["5"] = known_key(5, "active")
    assert new.next_key() is None
    assert [known.state.number for known in new.keys_that_are("retired")] == [4]


def test_a_retired_key_is_published_while_its_tokens_may_be_valid() -> None:
    """That is the longest lifetime of any token, and a minute for clocks that differ."""
    new = Tenant("acme", KEYS)
    new.record_token_lifetimes(None, 300)
    new.record_token_lifetimes(200)
    new.record_token_lifetimes()
    assert new.longest_ttl == 300
    new.keys = {status: known_key(number, status, 10) for number, status in enumerate(("next", "active", "retired"))}
    end = at(10 + 300 + LEEWAY_SECONDS)
    just_before = end - timedelta(microseconds=1)
    assert [known.state.status for known in new.published(just_before)] == ["next", "active", "retired"]
    assert [known.state.status for known in new.published(end)] == ["next", "active"]


def test_the_issuer_is_always_an_audience_of_a_client() -> None:
    """It comes before the registered ones; the client's settings override its tenant's."""
    new = Tenant("acme", KEYS)
    new.settings = TenantSettings(access_token_ttl=7, refresh_token_grace=3)
    rules = new.rules_of(ClientSettings(audiences=("https://api.example",), access_token_ttl=9))
    assert rules.audiences == ("urn:heirloom:acme", "https://api.example")
    assert (rules.access_token_ttl, rules.refresh_token_grace) == (9, 3)


def test_keys_rank_by_number_then_secret_then_name() -> None:
    """So every replica signs with the same one."""
    made = signing(4, 2)
    assert TenantKey(made, KeyState("ES256", 2, 4, {}), START, 1).rank() == (4, 2, made.kid)


# what is applied


def test_nothing_is_known_at_first() -> None:
    """There is no lease either, for the age of the memory is unknown."""
    new = registry()
    assert (new.tenants(), new.known_tenant("acme"), new.current_until) == ([], None, float("-inf"))
    assert (new.void_until("acme", "web"), new.roles("acme"), new.max_connections("acme", "web")) == (None, {}, None)
    assert not new.ready.is_set()


def test_a_tenants_settings_apply_to_all_its_clients() -> None:
    """Also to those known before; without its own commit a tenant is not configured."""
    made = registry(client(1, settings=ClientSettings(refresh_token_grace=4)))
    assert made.tenants() == [] and made.known_tenant("acme") is not None
    configured = tenant(2, TenantSettings(issuer="https://acme.example", access_token_ttl=500), longest=9000)
    made.apply(configured)
    acme = of_acme(made)
    assert made.tenants() == [acme] and acme.configured == configured and acme.issuer == "https://acme.example"
    assert acme.longest_ttl == 9000
    rules = acme.clients["web"].rules
    assert (rules.access_token_ttl, rules.refresh_token_grace) == (500, 4)
    assert rules.audiences == ("https://acme.example",)
    made.apply(tenant(2, TenantSettings(access_token_ttl=10_000)))
    made.apply(tenant(1, TenantSettings(access_token_ttl=10_000)))
    assert acme.longest_ttl == 9000 and acme.configured == configured, "it is not newer than the known one"
    made.apply(tenant(3, TenantSettings(access_token_ttl=10_000)))
    assert acme.longest_ttl == 10_000 and acme.clients["web"].rules.access_token_ttl == 10_000


def test_the_default_lifetime_counts_too() -> None:
    """If neither the tenant nor a client sets one."""
    acme = of_acme(registry(tenant(1)))
    assert acme.longest_ttl == 300


def test_a_client_is_known_with_its_rules() -> None:
    """And so are the lifetimes of its tokens, also earlier ones."""
    settings = ClientSettings(access_token_ttl=400, max_connections=7)
    first = client(2, settings=settings, longest_ttl=5000)
    made = registry(tenant(1, TenantSettings(refresh_token_grace=5)), first)
    acme = of_acme(made)
    known = acme.clients["web"]
    assert (known.client_id, known.state.settings, known.stored) == ("web", settings, first)
    assert (known.rules.access_token_ttl, known.rules.refresh_token_grace) == (400, 5)
    assert acme.longest_ttl == 5000
    buckets = known.bucket, known.persons, known.assertions
    assert {type(bucket) for bucket in buckets} == {Bucket} and len({id(bucket) for bucket in buckets}) == 3
    assert made.max_connections("acme", "web") == 7
    assert (made.max_connections("acme", "other"), made.max_connections("other", "web")) == (None, None)
    assert made.max_connections("acme", "role:eve") == MAX_CONNECTIONS
    assert made.max_connections("operator", "") == MAX_CONNECTIONS_OF_A_PASSWORD
    made.apply(client(2, settings=ClientSettings(access_token_ttl=9000)))
    assert acme.clients["web"] is known and acme.longest_ttl == 5000
    made.apply(client(3, settings=ClientSettings(access_token_ttl=9000)))
    assert acme.clients["web"].rules.access_token_ttl == acme.longest_ttl == 9000


def test_void_until_for_clients_and_roles() -> None:
    """A client's comes from its disabling, a role's from its addition; a disabled or revoked one is void for ever."""
    made = registry(client(1, void_until=at(9)), client(2, "off", disabled=True, void_until=at(9)))
    made.apply(role(3))
    made.apply(role(4, revoked=True, name="mallory"))
    made.apply(client(5, "new"))
    assert made.void_until("acme", "web") == at(9) and made.void_until("acme", "off") == FOR_EVER
    assert made.void_until("acme", "role:eve") == at(3) and made.void_until("acme", "role:mallory") == FOR_EVER
    for unknown in ("new", "nobody", "eve", "role:nobody", "role:web"):
        assert made.void_until("acme", unknown) is None
    assert made.void_until("other", "off") is None
    assert {name: (known.seq, known.at) for name, known in made.roles("acme").items()} == {
        "eve": (3, at(3)),
        "mallory": (4, at(4)),
    }
    assert made.roles("acme")["mallory"].state == role_events.RoleState("edge", "sha256:x", revoked=True)


def test_voided_clients_and_roles_are_reported() -> None:
    """Clients that are disabled, or were meanwhile; roles that are revoked, or were added again."""
    voided: list[tuple[str, str]] = []
    made = Registry(cast("Log", Table()), KEYS, lambda *who: voided.append(who))
    for commit, reported in (
        (client(1, void_until=at(1)), False),
        (client(2, void_until=at(1)), False),
        (client(3, void_until=at(2)), True),
        (client(3, disabled=True), False),
        (client(4, disabled=True, void_until=at(2)), True),
        (client(5, "new", disabled=True), True),
    ):
        made.apply(commit)
        assert voided == ([("acme", commit.subject.rpartition(".")[2])] if reported else [])
        voided.clear()
    for commit, reported in (
        (role(6), False),
        (role(6, revoked=True), False),
        (role(7, revoked=True), True),
        (role(8), True),
        (role(9, revoked=True, name="new"), True),
    ):
        made.apply(commit)
        assert voided == ([("acme", f"role:{commit.subject.rpartition('.')[2]}")] if reported else [])
        voided.clear()


def test_the_highest_active_key_signs() -> None:
    """A commit that is not newer changes nothing; the newest MAC key is used for new tokens."""
    made = registry(key(1, 1, "next"))
    acme = of_acme(made)
    kid = signing(1).kid
    assert of_acme(made).signing is None
    assert (acme.keys[kid].at, acme.keys[kid].seq, acme.keys[kid].state.status) == (at(1), 1, "next")
    for commit, signs in (
        (key(2, 1, "active"), 1),
        (key(3, 3, "active"), 3),
        (key(4, 2, "active"), 3),
        (key(5, 3, "retired"), 2),
        (key(5, 3, "active"), 2),
        (key(4, 3, "active"), 2),
        (key(6, 4, "next"), 2),
    ):
        made.apply(commit)
        assert acme.signing is not None and acme.signing.kid == signing(signs).kid
    once_made = acme.keys[kid].key
    made.apply(key(7, 1, "retired"))
    assert acme.keys[kid].key is once_made, "a signing key is expensive to make"
    assert acme.signing is acme.keys[signing(2).kid].key
    for secret, newest in ((2, 2), (3, 3), (1, 3)):
        made.apply(mac_key(8, secret))
        assert acme.mac_key == newest
    assert all(not name.startswith("mac") for name in acme.keys)


def test_a_key_of_an_unknown_secret_or_another_keyring() -> None:
    """The error names the missing secret and the tenant, or says that the keyring belongs to another log."""
    with pytest.raises(KeyMismatch, match=r"^the keyring has no secret 9, which tenant acme uses$"):
        registry(mac_key(1, 9))
    with pytest.raises(KeyMismatch, match=r"^the keyring is not the one tenant acme was made with: signing keys"):
        registry(key(1, 1, "active", kid="of-another-keyring"))


def test_a_secret_added_meanwhile_is_read_from_the_file(tmp_path: Path) -> None:
    """No restart is needed."""
    keys = keyring.create(tmp_path / "keyring.json")
    newest = keyring.add(tmp_path / "keyring.json")
    assert newest not in keys
    assert of_acme(registry(mac_key(1, newest), keys=keys)).mac_key == newest


def test_every_commit_of_a_tenant_clears_its_public_replies() -> None:
    """They are kept until then."""
    made = registry(tenant(1))
    of_acme(made).public_replies["jwks"] = (0.0, b"{}")
    made.apply(mac_key(2, 2))
    assert of_acme(made).public_replies == {}


def test_blocked_people_are_known_with_their_sequence() -> None:
    """An append expects that sequence."""
    made = registry(blocked(5))
    assert made.blocked_subjects.known("acme", "alice") == BlockState(5, True)
    assert made.blocked_subjects.known("acme", "bob") == NOTHING


async def test_the_newest_state_of_a_person_is_read_from_the_log() -> None:
    """For decisions that must not rely on memory."""
    log = Table(blocked(5))
    assert await registry(log=log).blocked_subjects.newest("acme", "alice") == BlockState(5, True)


def test_a_foreign_message_changes_nothing() -> None:
    """It makes no tenant known; a commit of a later version ends the replica."""
    made = registry(StoredMessage(1, "tokens.acme.tenant", b"{}"))
    assert made.known_tenant("acme") is None
    later = tenant(1)
    with pytest.raises(UnreadableCommit):
        made.apply(StoredMessage(1, later.subject, later.body.replace(b'"v":1', b'"v":9')))


# what is looked up


async def current(made: Registry, seq: int = 0) -> None:
    """Give the registry a lease, and let it have followed the log to `seq`."""
    made.current_until = asyncio.get_running_loop().time() + 3
    made._applied_seq = seq


async def test_a_tenant_comes_from_memory_only_with_a_lease() -> None:
    """It must be configured and have a signing key; else the leader is asked, and its keys are awaited."""
    log = Table(tenant(1), key(2, 1, "active"))
    made = registry(tenant(1), key(2, 1, "active"), log=log)
    await current(made, 2)
    assert await made.tenant("acme") is made.known_tenant("acme") and log.asked == []
    asked = ["tokens.acme.tenant", "tokens.acme.key.*"]
    made.current_until -= 3
    assert not made.is_current()
    assert await made.tenant("acme") is made.known_tenant("acme") and log.asked == asked
    for known in ((tenant(1),), (key(2, 1, "active"),), ()):
        log.asked.clear()
        partly = registry(*known, log=log)
        await current(partly, 2)
        found = await partly.tenant("acme")
        assert found is partly.known_tenant("acme") and found is not None and found.configured is not None
        assert log.asked == asked


async def test_an_unknown_tenant() -> None:
    """The leader is asked once, and never about a name that no tenant can have."""
    log = Table()
    made = registry(log=log)
    assert await made.tenant("acme") is None and log.asked == ["tokens.acme.tenant"]
    assert await made.tenant("acme.x") is None and log.asked == ["tokens.acme.tenant"]


async def test_a_tenant_without_keys_waits_for_none() -> None:
    """It may just be created."""
    made = registry(log=Table(tenant(1)))
    async with asyncio.timeout(10):
        assert await made.tenant("acme") is not None


async def test_a_client_comes_from_memory_only_with_a_lease() -> None:
    """Else the leader is asked, unless no client can have the name."""
    log = Table(client(2, settings=ClientSettings(access_token_ttl=2)), client(3, "other"))
    made = registry(tenant(1), client(1), log=log)
    acme = of_acme(made)
    await current(made)
    known = await made.client(acme, "web")
    assert known is acme.clients["web"] and known is not None and known.stored.seq == 1 and log.asked == []
    found = await made.client(acme, "other")
    assert isinstance(found, Client) and found.stored.seq == 3
    made.current_until = float("-inf")
    newer = await made.client(acme, "web")
    assert newer is not None and newer.rules.access_token_ttl == 2
    assert log.asked == ["tokens.acme.client.other", "tokens.acme.client.web"]
    assert await made.client(acme, "nobody") is None and await made.client(acme, "no.body") is None
    assert log.asked[2:] == ["tokens.acme.client.nobody"]


async def test_a_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not include its last moment."""
    made = registry()
    now = asyncio.get_running_loop().time()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    for left, is_current in ((3.0, True), (1.5, True), (-1.0, False)):
        made.current_until = now + left
        assert made.is_current() == is_current
    made.current_until = now
    assert not made.is_current()


async def test_waiting_for_a_commit_ends_once_it_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or after a while, with the error that the replica is behind."""
    made = registry()
    await made.catch_up(0)
    monkeypatch.setattr(registry_module, "CATCH_UP_SECONDS", 0.01)
    with pytest.raises(Unavailable, match="this replica is behind the log"):
        await made.catch_up(1)
    made._applied_seq = 1
    await made.catch_up(1)


# following the log


class Reading:
    """`events.log.consumer_reader.read`, for these batches."""

    def __init__(self, made: Registry, *batches: Batch) -> None:
        self.made, self.batches = made, batches
        self.asked: list[tuple[object, Sequence[str], bool]] = []
        self.were_ready: list[bool] = []

    async def read(self, connection: object, *, filters: Sequence[str], last_per_subject: bool) -> AsyncIterator[Batch]:
        """Yield each batch, and record whether the registry is ready after it."""
        self.asked.append((connection, filters, last_per_subject))
        for batch in self.batches:
            yield batch
            self.were_ready.append(self.made.ready.is_set())


async def followed(
    monkeypatch: pytest.MonkeyPatch, made: Registry, *batches: Batch
) -> tuple[Reading, list[BaseException]]:
    """Follow these batches; return the reading and its failures."""
    reading, failures = Reading(made, *batches), list[BaseException]()
    monkeypatch.setattr(registry_module, "read", reading.read)
    connection = cast("Any", object())
    await made.follow(connection, failures.append)
    assert reading.asked == [(connection, aggregate_names.REGISTRY, True)]
    return reading, failures


async def test_a_replica_follows_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ready once no message is pending, and each commit wakes those who wait for it."""
    made = registry()
    waiting = asyncio.create_task(made.wait_until_applied(4))
    await asyncio.sleep(0)
    reading, failures = await followed(
        monkeypatch, made, Batch([tenant(1), client(2)], 1), Batch([mac_key(4, 2)], 0), Batch([], 0)
    )
    async with asyncio.timeout(10):
        await waiting
    assert reading.were_ready == [False, True, True] and failures == []
    assert made._applied_seq == 4 and of_acme(made).mac_key == 2 and "web" in of_acme(made).clients


async def test_an_empty_log_makes_it_ready_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = registry()
    reading, failures = await followed(monkeypatch, made, Batch([], 0))
    assert reading.were_ready == [True] and failures == [] and made._applied_seq == 0


async def test_a_failure_ends_following(monkeypatch: pytest.MonkeyPatch) -> None:
    """No later commit counts as applied."""
    made = registry()
    reading, failures = await followed(monkeypatch, made, Batch([mac_key(1, 9)], 0))
    assert [type(failure) for failure in failures] == [KeyMismatch]
    assert reading.were_ready == [] and made._applied_seq == 0 and not made.ready.is_set()


async def test_the_last_commit_below_a_foreign_message_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks until the leader answers; without a commit or an aggregate there is nothing to apply."""
    monkeypatch.setattr(registry_module, "RETRY_SECONDS", 0)
    log = Table(tenant(3, TenantSettings(access_token_ttl=2)))
    log.away = 2
    made = registry(log=log)
    foreign = [
        StoredMessage(5, place, b"{}") for place in ("tokens.acme.tenant", "tokens.acme.client.web", "tokens.x.y.z")
    ]
    _, failures = await followed(monkeypatch, made, Batch(foreign, 0))
    assert failures == [] and made._applied_seq == 5
    assert log.asked == [*["tokens.acme.tenant"] * 3, "tokens.acme.client.web"]
    assert of_acme(made).settings.access_token_ttl == 2 and not of_acme(made).clients


@pytest.mark.parametrize("commits", [(), (blocked(3),)], ids=["none", "one below"])
async def test_a_family_may_begin_on_a_foreign_message_about_its_person(
    monkeypatch: pytest.MonkeyPatch, commits: tuple[StoredMessage, ...]
) -> None:
    """An append must expect the foreign message's sequence, as the broker does."""
    log = Table(*commits)
    log.foreign_on_top = 5 - len(commits) * 3
    made = registry(log=log)
    place = aggregate_names.subject("acme", "alice").live
    _, failures = await followed(monkeypatch, made, Batch([StoredMessage(5, place, b"{}")], 0))
    assert failures == [] and made.blocked_subjects.known("acme", "alice") == BlockState(5, bool(commits))
