"""Feeds every parser its share of arbitrary inputs."""

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutation import mutants
from tests.fuzz.parsers import Parser, parsers, scratch


class Figures(NamedTuple):
    """One parser's inputs, how many it refused, and the seconds of its slowest one."""

    inputs: int
    refused: int
    slowest: float


class Crash(Exception):
    """A parser raised an error that it must not raise; the message holds the input."""


def fuzz_parsers(inputs: int, seed: int, done: Callable[[str, Figures], None] = lambda *_: None) -> dict[str, Figures]:
    """Distribute that many inputs over all parsers. Raises `Crash`."""
    with scratch() as directory:
        found = parsers(Path(directory))
        figures = {}
        for number, (name, parser) in enumerate(found.items()):
            share = inputs // len(found) + (number < inputs % len(found))
            figures[name] = _fuzz(name, parser, share, seed)
            done(name, figures[name])
    return figures


def _fuzz(name: str, parser: Parser, inputs: int, seed: int) -> Figures:
    refused, slowest = 0, 0.0
    for data in islice(mutants(parser.originals, f"{seed}/{name}"), inputs):
        started = time.perf_counter()
        try:
            refused += parser.parse(data) is None
        except parser.refusals:
            refused += 1
        except Exception as error:
            raise Crash(f"{name}, seed {seed}: {type(error).__name__}: {error} for {data!r}") from error
        slowest = max(slowest, time.perf_counter() - started)
    return Figures(inputs, refused, slowest)
