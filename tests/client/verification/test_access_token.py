"""Only what the issuer has signed as an access token, for this resource, and now (RFC 9068 §4, RFC 8725)."""

import json
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from heirloom_client import InvalidToken
from heirloom_client.verification.access_token import MAX_HEADERS, MAX_KEYS, Expected, KeySet, claims_of
from tests.client.verification.issuer import AUDIENCE, ISSUER, Issuer, segment

EXPECTED = Expected(ISSUER, AUDIENCE, 30.0)


def verified(issuer: Issuer, token: str, keys: KeySet | None = None) -> Any:
    """The claims. Raises `InvalidToken`."""
    return claims_of((keys or issuer.keys()).signed(token), EXPECTED, time.time())


def why_not(issuer: Issuer, token: str, keys: KeySet | None = None) -> str:
    """Why the token is refused; the reason holds nothing of it."""
    with pytest.raises(InvalidToken) as refused:
        verified(issuer, token, keys)
    assert not [part for part in token.split(".") if len(part) > 20 and part in str(refused.value)]
    return refused.value.description


@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
def test_a_good_token(alg: str) -> None:
    """Of both algorithms, in either way of writing its type, with one audience or several."""
    issuer = Issuer(alg)
    claims = verified(issuer, issuer.token())
    assert (claims.sub, claims.client_id, claims.sid, claims.scopes) == ("alice", "web", "f1", {"read", "write"})
    assert (
        verified(issuer, issuer.token({"typ": "application/AT+JWT"}, aud=["other", AUDIENCE])).audience[1] == AUDIENCE
    )
    acting = verified(issuer, issuer.token(act={"sub": "b", "act": {"sub": "a"}}))
    assert acting.act.act.sub == "a"


HEADERS = {
    "alg none": ({"alg": "none"}, "names no algorithm that is accepted"),
    "no alg": ({"alg": None}, "names no algorithm that is accepted"),
    "another alg": ({"alg": "PS256"}, "names no algorithm that is accepted"),
    "the alg of another kind of key": ({"alg": "EdDSA"}, "another algorithm than the key is for"),
    "jku": ({"jku": "https://evil.example/jwks"}, "not accepted here: 'jku'"),
    "x5u": ({"x5u": "https://evil.example/cert"}, "not accepted here: 'x5u'"),
    "jwk": ({"jwk": {"kty": "EC"}}, "not accepted here: 'jwk'"),
    "unknown crit": ({"crit": ["exp"], "exp": 1}, "not accepted here: 'crit'"),
    "b64": ({"b64": False, "crit": ["b64"]}, "not accepted here: 'b64'"),
    "an ID token": ({"typ": "JWT"}, "not of the type at+jwt"),
    "no typ": ({"typ": None}, "not of the type at+jwt"),
    "typ is a list": ({"typ": ["at+jwt"]}, "not of the type at+jwt"),
    "unknown kid": ({"kid": "k2"}, "no key of the issuer"),
    "kid is an object": ({"kid": {"k1": 1}}, "no key of the issuer"),
    "no kid": ({"kid": None}, "no key of the issuer"),
}


@pytest.mark.parametrize(("header", "reason"), HEADERS.values(), ids=HEADERS)
def test_headers(header: dict[str, Any], reason: str) -> None:
    """A token chooses neither its key nor its algorithm, although its signature is good."""
    issuer = Issuer()
    assert reason in why_not(issuer, issuer.token(header))


def test_a_mac_with_the_public_key() -> None:
    """What everybody could make (RFC 8725 §2.1)."""
    issuer = Issuer()
    assert "no algorithm that is accepted" in why_not(issuer, issuer.by_mac_of_the_public_key())


CLAIMS = {
    "another issuer": ({"iss": "https://globex.example"}, "another issuer"),
    "another resource": ({"aud": "https://other.example"}, "for another resource"),
    "the resource's name within another's": ({"aud": AUDIENCE + ".evil.example"}, "for another resource"),
    "expired beyond the leeway": ({"exp": int(time.time()) - 31}, "expired"),
    "from the future": ({"iat": int(time.time()) + 3600}, "not valid yet"),
    "not before": ({"nbf": int(time.time()) + 3600}, "not valid yet"),
    "no exp": ({"exp": None}, "not those of an access token"),
    "exp is text": ({"exp": "4102444800"}, "not those of an access token"),
    "no client_id": ({"client_id": None}, "not those of an access token"),
    "no jti": ({"jti": None}, "not those of an access token"),
    "no sub": ({"sub": None}, "not those of an access token"),
    "aud is an object": ({"aud": {AUDIENCE: 1}}, "not those of an access token"),
    "no aud": ({"aud": None}, "not those of an access token"),
}


@pytest.mark.parametrize(("changed", "reason"), CLAIMS.values(), ids=CLAIMS)
def test_claims(changed: dict[str, Any], reason: str) -> None:
    """Each must be there, of its type, and of this issuer, resource and time."""
    issuer = Issuer()
    assert reason in why_not(issuer, issuer.token(**changed))


def test_clocks_may_differ_by_the_leeway() -> None:
    """Both ways, and no further."""
    issuer, now = Issuer(), time.time()
    late, early = issuer.claims(exp=int(now) - 20), issuer.claims(iat=int(now) + 20, nbf=int(now) + 20)
    for claims in (late, early):
        assert claims_of(json.dumps(claims).encode(), EXPECTED, now)
        with pytest.raises(InvalidToken):
            claims_of(json.dumps(claims).encode(), EXPECTED._replace(leeway=10.0), now)


def test_texts_that_are_no_tokens() -> None:
    """Altered, cut, opaque, of a megabyte: each refused with a reason, and soon."""
    issuer = Issuer()
    token = issuer.token()
    header, payload, signature = token.split(".")
    for text, reason in (
        (f"{header}.{segment(issuer.claims(sub='bob'))}.{signature}", "signature is wrong"),
        (Issuer().token(), "signature is wrong"),
        (f"{header}.{payload}.{signature[:-4]}", "signature is wrong"),
        (f"{header}.{payload}.", "signature is wrong"),
        (f"{header}.{payload}.{signature[:-1]}!", "base64url"),
        (f"{header}.{payload}.{signature}.", "no signed token"),
        (f"{header}.{payload}", "no signed token"),
        ("", "no signed token"),
        ("hat_" + "x" * 60, "opaque"),
        (f"{header}.{payload}.{signature}é", "no signed token"),
        ("x" * 1_000_000, "longer than any"),
        (f"{segment(b'[' * 3000)}.{payload}.{signature}", "header cannot be read"),
        (f"{segment(b'[]')}.{payload}.{signature}", "header cannot be read"),
        (issuer.signed(header, segment(b"[" * 3000)), "not those of an access token"),
        (issuer.signed(segment(b'{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"k1"}'), payload), "cannot be read"),
    ):
        assert reason in why_not(issuer, text)


def test_keys() -> None:
    """Only public signature keys of our algorithms; a thousand are refused as a whole."""
    issuer, other = Issuer(), ECKey.generate_key("P-384")
    good = issuer.jwk()
    for jwk in (
        good | {"use": "enc"},
        good | {"alg": "HS256"},
        good | {"alg": "EdDSA"},
        good | {"d": "AA"},
        good | {"kid": 7},
        {name: value for name, value in good.items() if name != "x"},
        good | {"x": "AAAA"},
        dict(RSAKey.generate_key(2048).as_dict(private=False)) | {"kid": "k1", "alg": "RS256"},
        dict(other.as_dict(private=False)) | {"kid": "k1", "alg": "ES256"},
    ):
        assert why_not(issuer, issuer.token(), KeySet([jwk])) == "no key of the issuer has that kid"
    with pytest.raises(ValueError, match=f"1,000 keys; an issuer has at most {MAX_KEYS}"):
        KeySet([good] * 1000)


def test_headers_are_remembered_within_a_bound() -> None:
    """Whoever gets a thousand tokens of one key with as many headers makes no verifier grow."""
    issuer = Issuer()
    keys, payload = issuer.keys(), segment(issuer.claims())
    for number in range(2 * MAX_HEADERS):
        header = b'{"alg":"ES256",%s"typ":"at+jwt","kid":"k1"}' % (b" " * number)
        keys.signed(issuer.signed(segment(header), payload))
        assert len(keys._headers) <= MAX_HEADERS
