"""Everything that was ever written can be read: JSON files are added to `golden/` and never edited."""

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from events.aggregates.commit import type_of
from events.aggregates.kinds import KINDS

GOLDEN = Path(__file__).with_name("golden")
EVENTS = {
    f"{name}.{type_of(event)}"
    for name, kind in KINDS.items()
    for event in get_args(kind.codec.event) or (kind.codec.event,)
}


def test_every_event_and_commit_has_its_golden_file() -> None:
    """New event types add `<kind>.<type>.json`, further versions `<kind>.<type>.2.json`."""
    written = {".".join(file.name.split(".")[:2]) for file in GOLDEN.glob("*.json")}
    assert written == EVENTS | {f"{kind}.commit" for kind in KINDS}


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.name)
def test_golden_files_are_read_and_written_unchanged(file: Path) -> None:
    """Decoding and encoding gives the same bytes."""
    written = file.read_bytes().rstrip(b"\n")
    kind, what = file.name.split(".")[:2]
    codec = KINDS[kind].codec
    if what == "commit":
        assert codec.encode(codec.decode(written)) == written
    else:
        assert msgspec.json.encode(msgspec.json.decode(written, type=codec.written_event)) == written
