"""Strict JSON: whatever shortcut is taken, a key that is given twice is found."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.strict_json import Malformed, check

KEYS = st.sampled_from(["a", "b", "a:", '"', "\\", "é", ""])
VALUES = st.recursive(
    KEYS | st.none() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=5), st.booleans())
def test_a_key_twice(pairs: list[tuple[str, object]], ensure_ascii: bool) -> None:
    """Refused if, and only if, there is one."""
    members = (f"{json.dumps(key, ensure_ascii=ensure_ascii)}: {json.dumps(value)}" for key, value in pairs)
    body = ("{" + ", ".join(members) + "}").encode()
    if len(dict(pairs)) == len(pairs):
        assert check(body) == dict(pairs)
    else:
        with pytest.raises(Malformed, match="twice"):
            check(body)
