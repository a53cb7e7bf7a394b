"""The characters of people's names."""

import pytest

from service.endpoints.end_user import PersonRequest, person_of
from service.errors import OAuthError


@pytest.mark.parametrize(
    "sub", ["\u0639\u0644\u06cc\u200c\u0631\u0636\u0627", "क्\u200dष", "👩\u200d👧", "alice", "O'Brien"]
)
def test_names_of_people_may_contain_joiners(sub: str) -> None:
    """ZWNJ and ZWJ occur in Persian and Hindi names, and in composed emoji."""
    assert person_of(PersonRequest(sub=sub)).sub == sub


@pytest.mark.parametrize(
    "sub", ["a\u202eb", "a\u2066b", "a\u200fb", "a\u200bb", "a\nb", "a\x00b", "a\ufeffb", "a\u2028b"]
)
def test_characters_that_hide_or_reorder_text_are_refused(sub: str) -> None:
    """Bidirectional overrides and control characters would display another name."""
    with pytest.raises(OAuthError, match="the parameter sub has a"):
        person_of(PersonRequest(sub=sub))
