"""The last commits alone show how long access tokens may live, to replicas that have not read the others."""

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from events.aggregates import aggregate_names
from events.aggregates import client as client_events
from events.aggregates import settings as tenant_events
from events.aggregates.aggregate_names import Aggregate
from events.aggregates.commit import VERSION, Codec, Commit, digest
from events.aggregates.settings import ClientSettings, TenantSettings
from events.log.stored_message import StoredMessage
from events.verification.verifier import Verifier
from service.admin import tenant
from service.decide.client import Register, register
from service.decide.policy import Rules, resolve
from service.keys.keyring import Keyring
from service.registry.registry import Registry
from tests.service.decide.given import START

TTLS = st.none() | st.integers(1, 5) | st.integers(1_000, 1_005)
"""Lifetimes in seconds, longer and shorter than the default; None if not set."""
CHANGES = st.lists(st.tuples(st.sampled_from(["tenant", "client"]), TTLS) | st.just(("disabled", None)), max_size=8)


class History:
    """The commits of a tenant and of one client, and every lifetime its tokens had."""

    def __init__(self) -> None:
        self.log: list[StoredMessage] = []
        self.given = {Rules().access_token_ttl}
        self._tenant: tenant_events.TenantState | None = None
        self._client: client_events.ClientState | None = None
        self.change("tenant", None)
        self.change("client", None)

    def change(self, what: str, ttl: int | None) -> None:
        """Append the result of an operator's command, if any."""
        match what:
            case "tenant":
                made = tenant.configure(self._tenant, TenantSettings(access_token_ttl=ttl))
                for event in made:
                    self._tenant = tenant_events.evolve(self._tenant, event)
                self._commit(aggregate_names.tenant("acme"), tenant_events.codec, made, self._tenant)
            case "client":
                command = Register(ClientSettings(access_token_ttl=ttl), "no matter", "never")
                self._commit_client(register(self._client, command))
            case _:
                self._commit_client((client_events.ClientDisabled(), client_events.ClientEnabled()))
        if self._tenant is not None and self._client is not None:
            self.given.add(resolve(self._tenant.settings, self._client.settings).access_token_ttl)

    def _commit_client(self, made: tuple[client_events.ClientEvent, ...]) -> None:
        for event in made:
            self._client = client_events.evolve(self._client, event)
        self._commit(aggregate_names.client("acme", "web"), client_events.codec, made, self._client)

    def _commit(self, place: Aggregate, codec: Codec[Any, Any], made: tuple[Any, ...], state: Any) -> None:
        if made:
            last = next((stored for stored in reversed(self.log) if stored.subject == place.live), None)
            prev, prev_seq = (digest(last.body), last.seq) if last is not None else (None, 0)
            body = codec.encode(Commit(VERSION, "id", START, "operator", prev, prev_seq, made, state))
            self.log.append(StoredMessage(len(self.log) + 1, place.live, body))


def _longest(log: list[StoredMessage]) -> int:
    registry = Registry(cast("Any", None), Keyring({1: b"a" * 32}))
    for stored in log:
        registry.apply(stored)
    return registry.tenants()[0].longest_ttl


@settings(deadline=None)
@given(CHANGES)
def test_a_starting_replica_knows_every_lifetime_of_issued_tokens(
    changes: list[tuple[str, int | None]],
) -> None:
    """Every replica publishes a retired key for that long; the log passes verification."""
    history = History()
    for what, ttl in changes:
        history.change(what, ttl)
    last_commits = {stored.subject: stored for stored in history.log}
    longest = _longest(history.log)
    assert longest >= max(history.given)
    assert _longest(sorted(last_commits.values(), key=lambda stored: stored.seq)) == longest
    verifier = Verifier()
    for stored in history.log:
        verifier.check(stored)
    assert verifier.report().fault is None
