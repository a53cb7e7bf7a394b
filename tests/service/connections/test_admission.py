"""Who is let in at the broker's door, and what a guess costs; on a broker it is in `security/test_connecting`."""

from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from events.aggregates import client as client_events
from events.aggregates import role as role_events
from events.aggregates.settings import ClientSettings
from events.log.stored_commit import Stored
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


class Door:
    """A replica that knows tenant `acme` with its client `web` and its role `eve`, where the clock stands still."""

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
        """The log has that registration of the client, and the replica knows."""
        event = client_events.ClientConfigured(state.settings)
        self.registry.apply(_commit(client_events.codec, "tokens.acme.client.web", seq, event, state))

    def role(self, seq: int, secret: str, revoked: bool = False) -> Stored:
        """What the log has of the role; the replica knows it."""
        event = role_events.RoleAdded("resource", digest(secret))
        state = role_events.RoleState("resource", digest(secret), revoked)
        stored = _commit(role_events.codec, "tokens.acme.role.eve", seq, event, state)
        self.registry.apply(stored)
        return stored

    async def refused(self, user: str, proof: str) -> tuple[str, int]:
        """As what, and after how many looks into the log."""
        self.log.looks = 0
        with pytest.raises(OAuthError) as refusal:
            await self.admission.admit(ConnectOptions(user, proof))
        return refusal.value.code, self.log.looks


@pytest.fixture
async def door() -> Door:
    """Of one moment."""
    return Door()


UNKNOWN = ["acme.nobody", "nowhere.web", "acme.role.nobody", "nowhere.role.eve"]


@pytest.mark.parametrize("user", ["acme.web", "acme.role.eve", *UNKNOWN])
async def test_a_guess_is_one_look_at_the_tenants_rate(door: Door, user: str) -> None:
    """Whether there is such a client, role or tenant or not: nobody learns names by what a guess costs."""
    codes = [await door.refused(user, "guess") for _ in range(LOOKS_PER_SECOND + 1)]
    assert codes == [("invalid_client", 1)] * LOOKS_PER_SECOND + [("slow_down", 0)]


async def test_a_strangers_token_is_a_look_at_the_rate_of_strangers(door: Door) -> None:
    """The tenant that it names is looked for in the log; where it is known, a token that we did not make costs none."""
    tokens = "hat_" + "x" * 74, ".".join(["x" * 30] * 3)
    for token in tokens:
        assert await door.refused("nowhere.web", token) == ("invalid_client", 1)
        assert await door.refused("acme.web", token) == ("invalid_client", 0)
    for _ in range(LOOKS_PER_SECOND - len(tokens)):
        await door.refused("nowhere.web", "guess")
    for token in tokens:
        assert await door.refused("nowhere.web", token) == ("slow_down", 0)


async def test_who_is_right_by_what_is_known_waits_for_nobodys_guesses(door: Door) -> None:
    """By its secret or by what `heirloom url` made; and a role, which is looked up as the log has it, by its secret."""
    for _ in range(LOOKS_PER_SECOND):
        await door.refused("acme.nobody", "guess")
    assert await door.refused("acme.nobody", "guess") == ("slow_down", 0)
    for proof in (SECRET, client_password(KEY, "acme", "web")):
        assert (await door.admission.admit(ConnectOptions("acme.web", proof)))[:2] == ("acme", "web")
    assert door.log.looks == 0
    door.log.newest = door.eve
    admitted = await door.admission.admit(ConnectOptions("acme.role.eve", SECRET))
    assert (admitted.role, door.log.looks) == (NamedRole("acme", "eve", "resource"), 1)


async def test_a_secret_that_looks_like_a_token(door: Door) -> None:
    """It is random; ours are of one length, which no token has."""
    secret = "hat_" + "x" * 39
    door.client(5, client_events.ClientState(secret_hash=digest(secret)))
    assert (await door.admission.admit(ConnectOptions("acme.web", secret)))[:2] == ("acme", "web")


async def test_what_heirloom_url_made_is_void_after_a_disabling(door: Door) -> None:
    """And there is another one once the client is enabled again."""
    until = datetime(2026, 11, 29, 12, tzinfo=UTC)
    before, after = (client_password(KEY, "acme", "web", void) for void in (None, until))
    door.client(5, client_events.ClientState(disabled=True, void_until=until))
    for password in (before, after):
        assert await door.refused("acme.web", password) == ("invalid_client", 1)
    door.client(6, client_events.ClientState(void_until=until))
    assert await door.refused("acme.web", before) == ("invalid_client", 1)
    assert (await door.admission.admit(ConnectOptions("acme.web", after)))[:2] == ("acme", "web")


async def test_who_waited_is_let_in_by_what_holds_then(door: Door) -> None:
    """A secret, a computed password and a role's secret are looked at again."""
    waited = [ConnectOptions("acme.web", SECRET), ConnectOptions("acme.web", client_password(KEY, "acme", "web"))]
    admitted = [await door.admission.admit(offered) for offered in waited]
    door.client(5, client_events.ClientState(ClientSettings(max_connections=7), secret_hash=digest(SECRET)))
    for offered, before in zip(waited, admitted, strict=True):
        await door.admission.confirm(offered, before)
    until = clock.now()
    door.client(6, client_events.ClientState(secret_hash=digest(new_secret()), void_until=until))  # and enabled again
    for offered, before in zip(waited, admitted, strict=True):
        with pytest.raises(OAuthError, match="invalid_client"):
            await door.admission.confirm(offered, before)


async def test_a_role_that_waited_while_it_was_revoked(door: Door) -> None:
    """Though the name was added again at once: it is somebody else's."""
    door.log.newest, offered = door.eve, ConnectOptions("acme.role.eve", SECRET)
    admitted = await door.admission.admit(offered)
    await door.admission.confirm(offered, admitted)
    door.log.newest = door.role(6, new_secret())
    with pytest.raises(OAuthError, match="invalid_client"):
        await door.admission.confirm(offered, admitted)


async def test_an_assertion_is_not_shown_twice_to_wait(door: Door) -> None:
    """It is good once (RFC 7523 §3), so the registration is looked at: the same, or the client proves itself anew."""
    claims = {"iss": "web", "sub": "web", "aud": "urn:heirloom:acme", "exp": clock.now().timestamp() + 60, "jti": "1"}
    offered = ConnectOptions("acme.web", _signed(KEYS["ES256"], "ES256", None, claims))
    door.client(5, client_events.ClientState(BY_KEY))
    admitted = await door.admission.admit(offered)
    await door.admission.confirm(offered, admitted)
    with pytest.raises(OAuthError, match="invalid_client"):
        await door.admission.admit(offered)
    for seq, disabled in ((6, True), (7, False)):
        door.client(seq, client_events.ClientState(BY_KEY, disabled=disabled, void_until=clock.now()))
        with pytest.raises(OAuthError, match="invalid_client"):
            await door.admission.confirm(offered, admitted)


async def test_the_service_tries_the_doors_as_a_client_of_no_tenant(door: Door) -> None:
    """By a computed password alone, and without a look."""
    user = ".".join(PROBE)
    assert await door.admission.admit(ConnectOptions(user, client_password(KEY, *PROBE))) == Admitted(*PROBE)
    assert await door.refused(user, "guess") == ("invalid_client", 0)
