"""User codes as people type them (RFC 8628 §6.1)."""

import pytest

from service.keys.keyring import Keyring
from service.keys.user_code import LENGTH, family_of, new_user_code

KEYS = Keyring({1: b"a" * 32})
FAMILY = family_of(KEYS, "acme", "WDJB-MJHT")


@pytest.mark.parametrize(
    "typed",
    [
        *("wdjbmjht", "WDJB MJHT", "WDJB\nMJHT", "\tWDJB-MJHT\r\n", "W.D.J.B.M.J.H.T", "WDJB_MJHT", "WDJB\u2013MJHT"),
        *(
            "\uff37\uff24\uff2a\uff22\uff0d\uff2d\uff2a\uff28\uff34",
            "\uff57\uff44\uff4a\uff42mjht",
            "WDJB\u200b\u00a0MJHT",
        ),
        "WDJB-MJHT\u00df",
    ],
)
def test_spellings_of_a_user_code(typed: str) -> None:
    """Other characters are ignored, and full-width letters count as plain ones."""
    assert FAMILY is not None and family_of(KEYS, "acme", typed) == FAMILY


@pytest.mark.parametrize("typed", ["", "WDJB-MJH", "WDJB-MJHTT", "AEIOU-12", "WDJB-MJHT" + "-" * 60, "\ufdfa" * 64])
def test_texts_that_are_no_user_code(typed: str) -> None:
    """Too few letters, too many or none; a very long text is not read."""
    assert family_of(KEYS, "acme", typed) is None


def test_a_displayed_code_is_accepted() -> None:
    """It belongs to one tenant."""
    assert all(family_of(KEYS, "acme", new_user_code()) for _ in range(100))
    assert family_of(KEYS, "globex", "WDJB-MJHT") != FAMILY
    assert LENGTH == 8
