"""A map of bounded size."""

from events.bounded_map import BoundedMap


def filled(*keys: str) -> BoundedMap[str, int]:
    """Of two entries at most."""
    entries: BoundedMap[str, int] = BoundedMap(2)
    for number, key in enumerate(keys):
        entries[key] = number
    return entries


def test_what_was_set_last_stays() -> None:
    """Also of what is set again."""
    assert filled("a", "b", "c") == {"b": 1, "c": 2}
    assert filled("a", "b", "a", "c") == {"a": 2, "c": 3}


def test_what_is_moved_to_the_end_stays() -> None:
    """As the rate buckets do it with each that is used; reading alone moves nothing."""
    entries = filled("a", "b")
    entries.move_to_end("a")
    entries["c"] = 3
    assert entries == {"a": 0, "c": 3}
    assert entries["a"] == 0
    entries["d"] = 4
    assert entries == {"c": 3, "d": 4}
