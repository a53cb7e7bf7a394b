"""A map of bounded size."""

from events.bounded_map import BoundedMap


def filled(*keys: str) -> BoundedMap[str, int]:
    """A map of at most two entries."""
    entries: BoundedMap[str, int] = BoundedMap(2)
    for number, key in enumerate(keys):
        entries[key] = number
    return entries


def test_the_entries_set_last_are_kept() -> None:
    """Setting one again counts."""
    assert filled("a", "b", "c") == {"b": 1, "c": 2}
    assert filled("a", "b", "a", "c") == {"a": 2, "c": 3}


def test_an_entry_moved_to_the_end_is_kept() -> None:
    """Rate buckets are moved with each use; reading alone moves nothing."""
    entries = filled("a", "b")
    entries.move_to_end("a")
    entries["c"] = 3
    assert entries == {"a": 0, "c": 3}
    assert entries["a"] == 0
    entries["d"] = 4
    assert entries == {"c": 3, "d": 4}
