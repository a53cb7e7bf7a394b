"""Requests are decoded strictly: one object, each key once, right types."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.aggregates.settings import ClientSettings, GrantType
from events.token_format import FORM
from service.decide.scope import parse_resources
from service.endpoints.end_user import PersonRequest, person_of
from service.endpoints.grants.idempotency import retry_of
from service.endpoints.grants.token_request import TokenRequest, decoder
from service.errors import OAuthError
from service.keys.keyring import Keyring
from service.keys.mac_tokens import MacTokens
from service.registry.parse_settings import parse
from service.request import Request, at_most, decode, idempotency_key

TEXT = st.text(alphabet=st.sampled_from('ab:"\\{},é\n'), max_size=6)


def _pairs(pairs: list[tuple[str, str]], *, ascii_only: bool) -> bytes:
    members = (
        f"{json.dumps(name, ensure_ascii=ascii_only)}: {json.dumps(value, ensure_ascii=ascii_only)}"
        for name, value in pairs
    )
    return ("{" + ", ".join(members) + "}").encode()


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), st.booleans())
@example([("a", ":"), ("a", "b")], False)
@example([("a:", "x"), ("a:", "y")], True)
def test_a_repeated_key_is_always_found(pairs: list[tuple[str, str]], ascii_only: bool) -> None:
    """The quick and the thorough check agree, with any colons and escapes in names and values."""
    body = _pairs(pairs, ascii_only=ascii_only)
    names = [name for name, _ in pairs]
    if len(set(names)) == len(names):
        assert isinstance(decode(body, decoder), TokenRequest)
    else:
        with pytest.raises(OAuthError, match="twice"):
            decode(body, decoder)


def test_an_escaped_colon_cannot_hide_a_second_key() -> None:
    """A colon that only the decoded text has must not replace the one of a dropped key."""
    body = rb'{"scope": "a", "grant_type": "\u003a", "scope": "b"}'
    with pytest.raises(OAuthError, match="twice"):
        decode(body, decoder)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_request_or_an_invalid_request(body: bytes) -> None:
    """Decoding raises nothing else."""
    try:
        decode(body, decoder)
    except OAuthError as error:
        assert error.code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [b"", b"nope", b"[]", b"null", b'{"scope": 1}', b'{"scope": "\xff"}', b"{" * 9000, b" " * 17_000, b'{"a":1}{}'],
)
def test_a_malformed_request_is_refused(body: bytes) -> None:
    """Not JSON, not an object, wrong type, not UTF-8, too deep, too large, two documents (CONTRACT §2)."""
    with pytest.raises(OAuthError, match="invalid_request"):
        decode(body, decoder)


@pytest.mark.parametrize("value", ["", "a" * 256, "with space", "tab\t", "é"])
def test_an_idempotency_key_is_visible_ascii(value: str) -> None:
    """1 to 255 visible ASCII characters (CONTRACT §2), whatever the header's capitals."""
    with pytest.raises(OAuthError, match="Idempotency-Key"):
        idempotency_key({"idempotency-key": value})
    assert idempotency_key({"Idempotency-Key": "~" * 255}) == "~" * 255
    assert idempotency_key({"Other": "x"}) is None


def test_errors_never_repeat_what_was_sent() -> None:
    """A token that was pasted into the wrong parameter is not in the error."""
    secret = "hrt_" + "s" * 67
    shapes: list[Any] = [{"grant_type": [secret]}, {"scope": {secret: 1}}, {"resource": 5, "scope": [secret]}]
    for shape in shapes:
        with pytest.raises(OAuthError) as caught:
            decode(msgspec.json.encode(shape), decoder)
        assert secret not in caught.value.body().decode()


@pytest.mark.parametrize(
    "name", ["token_endpoint_auth_method", "access_token_format", "grant_types", "scope_narrowing"]
)
def test_a_refused_setting_is_not_repeated(name: str) -> None:
    """The value may be a pasted token, so the error names only the setting."""
    secret = "hrt_" + "s" * 69
    with pytest.raises(OAuthError, match=name) as refused:
        parse(ClientSettings, {name: [secret] if name == "grant_types" else secret})
    assert secret not in str(refused.value.description)


JWT = f"eyJ{'h' * 30}.eyJ{'p' * 60}.{'s' * 86}"
FAMILY, SEED = "f" * 22, "e" * 22
KEPT = [MacTokens(Keyring({1: b"k" * 32}), "acme", kind).mint(1, FAMILY, 3, SEED) for kind in FORM] + [JWT]
AROUND = ["{}", "seen {} at the door", "https://api.example/?access_token%3D{}", "x{}", "{}."]


def _take(name: str, text: str) -> None:
    many: Any = (text,)
    match name:
        case "reason":
            at_most(text, 500, name)
        case "sub" | "acr" | "nonce":
            person_of(PersonRequest(**({"sub": "alice"} | {name: text})))  # type: ignore[arg-type]
        case "amr":
            person_of(PersonRequest(sub="alice", amr=many))
        case "resource":
            parse_resources(("https://api.example/", text))
        case "jwks":
            parse(ClientSettings, {name: {"keys": [{"kty": "EC", "kid": text}]}})
        case _:
            parse(ClientSettings, {name: text if name == "scope" else many})


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("token", KEPT, ids=[*FORM, "jwt"])
def test_text_must_not_look_like_a_token(token: str, around: str) -> None:
    """Free text stays in the log for good, and a valid token in it would too."""
    for name in ("reason", "sub", "acr", "nonce", "amr", "jwks", "scope", "audiences", "required_acr", "redirect_uris"):
        with pytest.raises(OAuthError, match=f"{name}.* looks like a token") as refused:
            _take(name, around.format(token))
        assert refused.value.code == "invalid_request"
        assert token not in refused.value.body().decode()
    with pytest.raises(OAuthError, match=r"resource .* looks like a token"):
        _take("resource", f"https://api.example/{token}")


@pytest.mark.parametrize(
    "text", ["hrt_", f"hrt_{'a' * 26}…", "eyJ0.b.c", f"eyJ{'a' * 90}", "what_is_a_token_and_for_whom"]
)
def test_text_that_is_no_token_is_accepted(text: str) -> None:
    """A part of a token, or a nonce that is a JSON object in base64."""
    assert at_most(text, 500, "reason") == text


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            *("token_endpoint_auth_method", "client_secret_basics"),
            "unknown value client_secret_basics, did you mean client_secret_basic?; known are client_secret_basic, "
            "client_secret_post, private_key_jwt, none",
        ),
        ("access_token_format", "x", "unknown value x; known are jwt, opaque"),
        ("access_token_format", 1, "must be a string, not a whole number"),
        ("grant_types", "x", "must be a list, not a string"),
        ("grant_types", ["refresh_token", 1], "item 2 must be a string, not a whole number"),
        ("may_exchange", "web", "must be a list, not a string"),
        ("may_issue", None, "must be true or false, not null"),
        ("access_token_ttl", "1h", "must be a whole number, not a string"),
        ("access_token_ttl", 1.5, "must be a whole number, not a number"),
        ("jwks", [], "must be an object, not a list"),
    ],
)
def test_the_error_of_a_setting_is_in_the_operators_words(name: str, value: object, expected: str) -> None:
    """It has the expected type, the actual type and the known values, and no validator's terms."""
    with pytest.raises(OAuthError) as refused:
        parse(ClientSettings, {name: value})
    assert refused.value.description == f"{name}: {expected}"


def test_the_unknown_value_of_a_list_is_named() -> None:
    """With the nearest known value, and with all known values."""
    with pytest.raises(OAuthError) as refused:
        parse(ClientSettings, {"grant_types": ["refresh_token", "authorisation_code"]})
    unknown = "grant_types: unknown value authorisation_code, did you mean authorization_code?; known are "
    assert refused.value.description == unknown + ", ".join(get_args(GrantType))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"grant_type": 1}', "grant_type must be a string, not a whole number"),
        (b'{"resource": 5}', "resource must be a string or a list, not a whole number"),
        (b'{"resource": ["a", {}]}', "resource[1] must be a string, not an object"),
        (b"[]", "the request must be an object, not a list"),
    ],
)
def test_a_parameter_of_a_wrong_type_is_named(body: bytes, expected: str) -> None:
    """With its expected and its actual type."""
    with pytest.raises(OAuthError) as refused:
        decode(body, decoder)
    assert refused.value.description == expected


@pytest.mark.parametrize("name", TokenRequest.__struct_fields__)
def test_a_retry_repeats_every_parameter(name: str) -> None:
    """CONTRACT §2: another value of any parameter makes another request under that key.

    Except for `client_id`, which only repeats the client.
    """
    request = Request("acme", "web", b"", {"Idempotency-Key": "k"})
    asked = TokenRequest(**dict.fromkeys(TokenRequest.__struct_fields__, "one"))
    same, other = retry_of(request, asked), retry_of(request, msgspec.structs.replace(asked, **{name: "other"}))
    left_out = retry_of(request, msgspec.structs.replace(asked, **{name: None}))
    assert same is not None and other is not None and left_out is not None
    assert same.key == other.key == left_out.key
    assert {same.body == other.body, same.body == left_out.body} == {name == "client_id"}
