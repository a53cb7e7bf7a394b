"""Strict JSON: a repeated key is found by every shortcut."""

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
def test_a_repeated_key(pairs: list[tuple[str, object]], ensure_ascii: bool) -> None:
    """A body is refused if and only if it has one."""
    members = (f"{json.dumps(key, ensure_ascii=ensure_ascii)}: {json.dumps(value)}" for key, value in pairs)
    body = ("{" + ", ".join(members) + "}").encode()
    if len(dict(pairs)) == len(pairs):
        assert check(body) == dict(pairs)
    else:
        with pytest.raises(Malformed, match="twice"):
            check(body)
