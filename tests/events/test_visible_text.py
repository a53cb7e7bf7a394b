"""Texts of others are neither commands to a terminal, nor repeated if they may be secrets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.aggregates.settings import ClientSettings
from events.visible_text import JOINERS, MAX_NAME_CHARACTERS, NOT_REPEATED, has_controls, unknown_name, visible
from heirloom.cli.tables import plain
from service.endpoints.end_user import PersonRequest, person_of
from service.errors import OAuthError
from service.registry.parse_settings import parse
from service.request import at_most

CONTROLS = ["\x00", "\x07", "\t", "\n", "\r", "\x1b", "\x7f", "\x9b", "\u2028", "\u2029", "\u202e", "\u2066"]


@given(st.text())
def test_visible_text_is_only_displayed(text: str) -> None:
    """It has no other effect on a terminal."""
    assert all(character.isprintable() or character in JOINERS for character in visible(text))
    assert not has_controls(visible(text))
    assert plain(text).plain == visible(text)


@pytest.mark.parametrize("control", CONTROLS)
def test_control_characters_are_refused(control: str) -> None:
    """In a person's parameters, an operator's reasons, and settings."""
    assert has_controls(f"a{control}b")
    for name in ("acr", "nonce", "sub"):
        with pytest.raises(OAuthError, match="invalid_request"):
            person_of(PersonRequest(**({"sub": "alice"} | {name: f"a{control}b"})))  # type: ignore[arg-type]
    with pytest.raises(OAuthError, match="invalid_request"):
        person_of(PersonRequest(sub="alice", amr=("pwd", f"a{control}b")))
    with pytest.raises(OAuthError, match="reason has a control character"):
        at_most(f"a{control}b", 100, "reason")
    with pytest.raises(OAuthError, match="control characters"):
        parse(ClientSettings, {"required_acr": [f"a{control}b"]})


@pytest.mark.parametrize(
    "text",
    [
        "alice",
        "Zoë",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "क्\u200dष",
        "李",
        "urn:mace:incommon:iap:silver",
    ],
)
def test_names_are_accepted_as_they_are_written(text: str) -> None:
    """Joiners belong to them."""
    assert not has_controls(text)
    assert at_most(text, 100, "reason") == text
    assert visible(text) == text


SECRETS = [
    "hrt_0123456789abcdefghijklmnop",
    "hac_x",
    "eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
    "c2VjcmV0IHNlY3JldCBzZWNyZXQ",
    "6fbd2a7c9e0b41d2",
    "QwErTyUiOpAsDfGhJkLzXcVbNm",
    "x" * 64,
    "Bearer hrt_1",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_place_of_a_setting_is_not_repeated(secret: str) -> None:
    """CONTRACT §2: the error says that something is unknown, and does not show it."""
    assert unknown_name(secret) == NOT_REPEATED
    with pytest.raises(OAuthError) as refusal:
        parse(ClientSettings, {secret: True})
    assert secret not in refusal.value.description
    assert "unknown setting" in refusal.value.description


def test_an_unknown_setting_is_named_cleaned_and_shortened() -> None:
    """A typing error is shown with the nearest setting; terminal escapes are removed."""
    with pytest.raises(OAuthError, match="refresh_token_grce: unknown setting, did you mean refresh_token_grace"):
        parse(ClientSettings, {"refresh_token_grce": 1})
    assert unknown_name("refreshTokenTtl") == "refreshTokenTtl"
    assert unknown_name("a\x1b[2J b") == "a\ufffd[2J b"
    assert len(unknown_name("ab " * 100)) == MAX_NAME_CHARACTERS + 1
