"""Small rooms, small files, and a page that leads to existing files."""

import re
from collections import Counter
from pathlib import Path

TOP = Path(__file__).parents[1]
PACKAGES = ("events", "service", "projections", "notary", "heirloom", "client/heirloom_client")
MAX_FILES = 15
MAX_LINES = 300


def _files(*folders: str) -> list[str]:
    return [str(path.relative_to(TOP)) for folder in folders for path in sorted((TOP / folder).rglob("*.py"))]


def test_no_room_is_crowded() -> None:
    """A folder of the product, the benchmarks or the tests has at most 15 files."""
    files = _files(*PACKAGES, "bench", "tests")
    crowded = {room: count for room, count in Counter(map(_room, files)).items() if count > MAX_FILES}
    assert not crowded


def test_no_file_is_long() -> None:
    """A product file has at most 300 lines."""
    lines = {path: len((TOP / path).read_text().splitlines()) for path in _files(*PACKAGES)}
    assert not {path for path, count in lines.items() if count > MAX_LINES}


def test_every_room_has_a_docstring() -> None:
    """In its `__init__.py`."""
    rooms = {_room(path) for path in _files(*PACKAGES, "bench")}
    silent = [room for room in rooms if not (TOP / room / "__init__.py").read_text().startswith('"""')]
    assert not silent


def test_the_page_names_existing_files() -> None:
    """As does the README."""
    for page in ("docs/structure.md", "README.md"):
        named = re.findall(rf"`((?:{'|'.join(PACKAGES)})/[\w/]+(?:\.py|/)?)`", (TOP / page).read_text())
        missing = [path for path in named if not ((TOP / path).exists() or (TOP / f"{path}.py").exists())]
        assert named and not missing, page


def test_every_module_of_the_service_is_named() -> None:
    """On the page, or in its room's `__init__.py`."""
    page = (TOP / "docs/structure.md").read_text()
    unnamed = [
        path
        for path in _files("service")
        if not path.endswith("__init__.py")
        and not re.search(rf"\b{Path(path).stem}\b", page + (TOP / _room(path) / "__init__.py").read_text())
    ]
    assert not unnamed


def test_decisions_are_numbered_without_gaps() -> None:
    """Each file of `docs/adr/` begins with the number in its name."""
    pages = sorted((TOP / "docs/adr").glob("*.md"))
    assert [page.name[:4] for page in pages] == [f"{number:04d}" for number in range(1, len(pages) + 1)]
    assert all(page.read_text().startswith(f"# {int(page.name[:4])}. ") for page in pages)


def _room(path: str) -> str:
    return path.rpartition("/")[0]
