"""A short run of `make fuzz`."""

from tests.fuzz.run import fuzz_parsers


def test_no_parser_crashes() -> None:
    """Every input is accepted or refused, in each parser's own way; each refuses some."""
    figures = fuzz_parsers(40_000, seed=20261121)
    assert sum(figure.inputs for figure in figures.values()) == 40_000
    assert all(figure.refused > 0 for figure in figures.values())
