"""Who may connect to the broker, and what a guess costs; `security/test_connecting` tests it on a broker."""

from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from events.aggregates import client as client_events
from events.aggregates import role as role_events
from events.aggregates.settings import ClientSettings
from events.log.stored_message import StoredMessage
from service import clock
from service.clients.authentication import ClientAuthentication
from service.connections.admission import PROBE, Admission, Admitted, ConnectOptions
from service.context import Context
from service.errors import OAuthError
from service.keys.derived_password import client_password
from service.keys.generated_secret import digest, new_secret
from service.registry.named_role import NamedRole
from service.request_rates import LOOKS_PER_SECOND
from tests.service.clients.test_authentication import BY_KEY, KEYS, _authentication, _commit, _signed, _Used

KEY = b"k" * 32
SECRET = new_secret()


class Replica:
    """A replica that knows tenant `acme`, its client `web` and its role `eve`; its clock stands still."""

    def __init__(self) -> None:
        authentication, self.log = _authentication(SECRET, now=lambda: 1000.0)
        self.context = cast("Any", authentication._context)
        self.context.skew = SimpleNamespace(require=lambda: None)
        self.context.caller = partial(Context.caller, self.context)
        self.registry = self.context.registry
        self.eve = self.role(4, SECRET)
        authentication = ClientAuthentication(self.context, cast("Any", _Used()))
        self.admission = Admission(self.context, authentication, KEY)

    def client(self, seq: int, state: client_events.ClientState) -> None:
        """Apply this registration of the client at the replica."""
        event = client_events.ClientConfigured(state.settings)
        self.registry.apply(_commit(client_events.codec, "tokens.acme.client.web", seq, event, state))

    def role(self, seq: int, secret: str, revoked: bool = False) -> StoredMessage:
        """Apply the role's commit at the replica, and return it."""
        event = role_events.RoleAdded("resource", digest(secret))
        state = role_events.RoleState("resource", digest(secret), revoked)
        stored = _commit(role_events.codec, "tokens.acme.role.eve", seq, event, state)
        self.registry.apply(stored)
        return stored

    async def refused(self, user: str, proof: str) -> tuple[str, int]:
        """The error code, and the number of reads of the log."""
        self.log.looks = 0
        with pytest.raises(OAuthError) as refusal:
            await self.admission.admit(ConnectOptions(user, proof))
        return refusal.value.code, self.log.looks


@pytest.fixture
async def replica() -> Replica:
    return Replica()


UNKNOWN = ["acme.nobody", "nowhere.web", "acme.role.nobody", "nowhere.role.eve"]


@pytest.mark.parametrize("user", ["acme.web", "acme.role.eve", *UNKNOWN])
async def test_a_guess_costs_one_read_at_the_tenants_rate(replica: Replica, user: str) -> None:
    """An unknown client, role or tenant costs the same, so that a guess discloses no names."""
    codes = [await replica.refused(user, "guess") for _ in range(LOOKS_PER_SECOND + 1)]
    assert codes == [("invalid_client", 1)] * LOOKS_PER_SECOND + [("slow_down", 0)]


async def test_a_foreign_token_for_an_unknown_tenant_costs_a_read(replica: Replica) -> None:
    """Those reads have a rate of their own. For a known tenant, a token that we did not make costs no read."""
    tokens = "hat_" + "x" * 74, ".".join(["x" * 30] * 3)
    for token in tokens:
        assert await replica.refused("nowhere.web", token) == ("invalid_client", 1)
        assert await replica.refused("acme.web", token) == ("invalid_client", 0)
    for _ in range(LOOKS_PER_SECOND - len(tokens)):
        await replica.refused("nowhere.web", "guess")
    for token in tokens:
        assert await replica.refused("nowhere.web", token) == ("slow_down", 0)


async def test_guesses_do_not_delay_a_correct_proof(replica: Replica) -> None:
    """A secret or derived password needs no read; a role is read from the log, and then its secret counts."""
    for _ in range(LOOKS_PER_SECOND):
        await replica.refused("acme.nobody", "guess")
    assert await replica.refused("acme.nobody", "guess") == ("slow_down", 0)
    for proof in (SECRET, client_password(KEY, "acme", "web")):
        assert (await replica.admission.admit(ConnectOptions("acme.web", proof)))[:2] == ("acme", "web")
    assert replica.log.looks == 0
    replica.log.newest = replica.eve
    admitted = await replica.admission.admit(ConnectOptions("acme.role.eve", SECRET))
    assert (admitted.role, replica.log.looks) == (NamedRole("acme", "eve", "resource"), 1)


async def test_a_secret_that_resembles_a_token(replica: Replica) -> None:
    """Secrets are random; ours have a length that no token has."""
    secret = "hat_" + "x" * 39
    replica.client(5, client_events.ClientState(secret_hash=digest(secret)))
    assert (await replica.admission.admit(ConnectOptions("acme.web", secret)))[:2] == ("acme", "web")


async def test_a_derived_password_is_void_after_a_disabling(replica: Replica) -> None:
    """The client has another one once it is enabled again."""
    until = datetime(2026, 11, 29, 12, tzinfo=UTC)
    before, after = (client_password(KEY, "acme", "web", void) for void in (None, until))
    replica.client(5, client_events.ClientState(disabled=True, void_until=until))
    for password in (before, after):
        assert await replica.refused("acme.web", password) == ("invalid_client", 1)
    replica.client(6, client_events.ClientState(void_until=until))
    assert await replica.refused("acme.web", before) == ("invalid_client", 1)
    assert (await replica.admission.admit(ConnectOptions("acme.web", after)))[:2] == ("acme", "web")


async def test_a_client_that_waited_is_checked_again(replica: Replica) -> None:
    """A secret or a derived password may have changed meanwhile."""
    waited = [ConnectOptions("acme.web", SECRET), ConnectOptions("acme.web", client_password(KEY, "acme", "web"))]
    admitted = [await replica.admission.admit(offered) for offered in waited]
    replica.client(5, client_events.ClientState(ClientSettings(max_connections=7), secret_hash=digest(SECRET)))
    for offered, before in zip(waited, admitted, strict=True):
        await replica.admission.confirm(offered, before)
    until = clock.now()
    replica.client(
        6, client_events.ClientState(secret_hash=digest(new_secret()), void_until=until)
    )  # and enabled again
    for offered, before in zip(waited, admitted, strict=True):
        with pytest.raises(OAuthError, match="invalid_client"):
            await replica.admission.confirm(offered, before)


async def test_a_role_that_waited_while_it_was_revoked_is_refused(replica: Replica) -> None:
    """Also if its name was added again at once, for that is another role."""
    replica.log.newest, offered = replica.eve, ConnectOptions("acme.role.eve", SECRET)
    admitted = await replica.admission.admit(offered)
    await replica.admission.confirm(offered, admitted)
    replica.log.newest = replica.role(6, new_secret())
    with pytest.raises(OAuthError, match="invalid_client"):
        await replica.admission.confirm(offered, admitted)


async def test_an_assertion_is_not_verified_again_after_waiting(replica: Replica) -> None:
    """RFC 7523 §3: it is valid once. Its client's registration must be unchanged instead."""
    claims = {"iss": "web", "sub": "web", "aud": "urn:heirloom:acme", "exp": clock.now().timestamp() + 60, "jti": "1"}
    offered = ConnectOptions("acme.web", _signed(KEYS["ES256"], "ES256", None, claims))
    replica.client(5, client_events.ClientState(BY_KEY))
    admitted = await replica.admission.admit(offered)
    await replica.admission.confirm(offered, admitted)
    with pytest.raises(OAuthError, match="invalid_client"):
        await replica.admission.admit(offered)
    for seq, disabled in ((6, True), (7, False)):
        replica.client(seq, client_events.ClientState(BY_KEY, disabled=disabled, void_until=clock.now()))
        with pytest.raises(OAuthError, match="invalid_client"):
            await replica.admission.confirm(offered, admitted)


async def test_the_service_probes_the_broker_as_a_client_of_no_tenant(replica: Replica) -> None:
    """By a derived password alone, and without a read."""
    user = ".".join(PROBE)
    assert await replica.admission.admit(ConnectOptions(user, client_password(KEY, *PROBE))) == Admitted(*PROBE)
    assert await replica.refused(user, "guess") == ("invalid_client", 0)
