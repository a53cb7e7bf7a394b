"""A short run of what `make fuzz` does for longer."""

from tests.fuzz.run import fuzz_parsers


def test_no_parser_crashes() -> None:
    """Whatever comes in is taken or refused, in each parser's own way; damage is refused, and not everything is."""
    figures = fuzz_parsers(40_000, seed=20261121)
    assert sum(figure.inputs for figure in figures.values()) == 40_000
    assert all(figure.refused > 0 for figure in figures.values())
