"""Every issued token can be presented: the largest accepted grant makes a token of less than 8 KiB."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.aggregates.family import AccessToken, FamilyState
from events.aggregates.settings import TenantSettings
from service.access_tokens.issued_token import Exchanged, IssuedToken, claims_of
from service.connections.admission import MAX_PROOF_CHARACTERS
from service.decide.decision import Granted, Refused
from service.decide.issue import issue
from service.decide.scope import MAX_RESOURCE_CHARACTERS, MAX_RESOURCES, MAX_SCOPE_CHARACTERS
from service.decide.token_size import MAX_GRANT_BYTES, check_size
from service.endpoints.end_user import MAX_AMR, MAX_NONCE_BYTES, MAX_NONCE_CHARACTERS, PersonRequest, person_of
from service.endpoints.grants.token_exchange import MAX_ACTORS
from service.errors import OAuthError
from service.keys.keyring import Keyring
from service.keys.signing_key import SigningKey
from service.registry.parse_settings import MAX_ISSUER_CHARACTERS
from service.registry.tenant import Tenant
from tests.service.decide.given import START, at, issuing

KEYS = Keyring({255: b"a" * 32})
SIGNING = SigningKey(KEYS, "t" * 63, 255, 1, "ES256")
LONGEST = MAX_PROOF_CHARACTERS
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=255)


def token_size(sub: str, scope: str, audience: tuple[str, ...], acr: str | None, amr: tuple[str, ...]) -> int:
    """The size of an access token with these values, and with the longest of everything else."""
    tenant = Tenant("t" * 63, KEYS)
    tenant.settings = TenantSettings(issuer="https://i.example/".ljust(MAX_ISSUER_CHARACTERS, "i"))
    state = FamilyState(
        client_id="c" * 64,
        sub=sub,
        scope=scope,
        audience=audience,
        grant="client_credentials",
        seed="s" * 22,
        opened_at=START,
        acr=acr,
        amr=amr,
        auth_time=(1 << 40) - 1,
    )
    access = AccessToken("j" * 22, scope, audience, at(0), at(315_360_000))
    exchanged = Exchanged(("a" * 64,) * MAX_ACTORS, ("j" * 22,) * MAX_ACTORS)
    claims = claims_of(tenant, IssuedToken("f" * 64, state, access, "c" * 64, exchanged))
    return len(SIGNING.sign(tenant.vouchers.vouch(255, state.seed, claims)))


GRANTS = st.tuples(
    TEXT,
    st.text("abcdefgh ", max_size=MAX_SCOPE_CHARACTERS),
    st.lists(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=MAX_RESOURCE_CHARACTERS), min_size=1, max_size=16
    ).map(tuple),
    st.none() | TEXT,
    st.lists(TEXT, max_size=MAX_AMR).map(tuple),
)


@given(GRANTS)
def test_every_accepted_grant_makes_a_presentable_token(grant: tuple[Any, ...]) -> None:
    """CONTRACT §2: a larger one could be neither introspected nor revoked."""
    try:
        check_size(*grant)
    except OAuthError:
        return
    assert token_size(*grant) < LONGEST


@pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f511", '"', "\x01"])
def test_the_longest_grant_makes_a_presentable_token(character: str) -> None:
    """It is exactly at the limit, whatever a character's size in JSON; with one byte more it is refused."""
    each = len(json.dumps(character, ensure_ascii=False).encode()) - 2
    fixed = len('["","",[""],null,[]]')
    count, rest = divmod(MAX_GRANT_BYTES - fixed, each)
    grant: tuple[Any, ...] = ("", "x" * rest, (character * count,), None, ())
    check_size(*grant)
    assert 7_000 < token_size(*grant) < LONGEST
    with pytest.raises(OAuthError, match="invalid_request"):
        check_size("", "x" * (rest + 1), *grant[2:])


def test_parts_within_their_limits_can_be_too_large_together() -> None:
    resources = tuple(
        f"https://a.example/{number}".ljust(MAX_RESOURCE_CHARACTERS, "x") for number in range(MAX_RESOURCES)
    )
    outcome = issue(None, issuing(audience=resources)).outcome
    assert isinstance(outcome, Refused) and outcome.error.code == "invalid_request"
    assert isinstance(issue(None, issuing(audience=resources[:7])).outcome, Granted)
    assert isinstance(issue(None, issuing(sub="s" * 255, acr="a" * 255, amr=("m" * 200,) * 16)).outcome, Granted)


def test_the_longest_id_token_is_bounded() -> None:
    """Its `nonce` is bounded in bytes as well."""
    person = {"sub": "s" * 255, "acr": "\u00e9" * 255, "amr": ("m" * 180,) * 16}
    check_size(str(person["sub"]), "", ("x",), str(person["acr"]), ("m" * 180,) * 16)
    nonce = "n" * MAX_NONCE_CHARACTERS
    assert person_of(PersonRequest(**person, nonce=nonce)).nonce == nonce  # type: ignore[arg-type]
    with pytest.raises(OAuthError, match=f"more than {MAX_NONCE_BYTES} bytes"):
        person_of(PersonRequest(**person, nonce="\U0001f511" * MAX_NONCE_CHARACTERS))  # type: ignore[arg-type]


@pytest.mark.parametrize("sub", ["\u0646\u0627\u0645\u0647\u200c\u0627\u06cc", "\u0915\u094d\u200d\u0937"])
def test_names_may_contain_joiners(sub: str) -> None:
    """Some scripts need them; characters that hide or reorder text are still refused."""
    assert person_of(PersonRequest(sub=sub)).sub == sub
    for hidden in ("\u200b", "\u202e", "\ufeff", "\n", "\x1b"):
        with pytest.raises(OAuthError, match=r"cannot be printed|control character"):
            person_of(PersonRequest(sub=sub + hidden))
