"""Verifying the whole log: every commit as `events.verify` does, and every checkpoint in it.

The two know different things. The chain of an aggregate says which commit was altered, but nothing of what came last;
a checkpoint vouches for everything before it, but only says between which sequences the history differs.
"""

import sys
from typing import NamedTuple

import msgspec

from events.log import Stored
from events.pipe import serve
from events.verify import Fault, Report, Verifier
from notary.checkpoint import read_checkpoint
from notary.note import parse_key
from notary.witness import Witness


class Terms(NamedTuple):
    """What the log is held against: verifier keys, and a checkpoint that was kept, as they are written."""

    keys: tuple[str, ...] = ()
    kept: str | None = None
    end: int = 0
    """The sequence after which the log has ended; 0 if that is not known."""


class LogVerifier:
    """Feed it the whole log in order with `check`. Raises `MalformedNote` for terms that are malformed."""

    def __init__(self, terms: Terms) -> None:
        self._end = terms.end
        self._commits = Verifier()
        kept = None if terms.kept is None else read_checkpoint(terms.kept.encode())
        self._witness = Witness([parse_key(key) for key in terms.keys], kept)

    def check(self, stored: Stored) -> None:
        """The next message of the stream."""
        self._commits.check(stored)
        self._witness.read(stored)
        if stored.seq == self._end:
            self.end()

    def end(self) -> None:
        """There is nothing more."""
        self._witness.end()

    def report(self) -> Report:
        """So far. The fault is the chain's where it lies within what the checkpoints found, since it is exact."""
        report = self._commits.report()
        found = self._witness.contradiction
        if found is not None and (report.fault is None or report.fault.seq > found.last):
            report = report._replace(fault=Fault(found.first, found.why), faulty=max(report.faulty, 1))
        return report._replace(checkpoints=self._witness.checkpoints, covered=self._witness.covered)


def of_nothing(terms: Terms) -> Report:
    """The report on an empty log."""
    verifier = LogVerifier(terms)
    verifier.end()
    return verifier.report()


def main() -> None:
    """A process that verifies what it is handed (`events.pipe`), on the terms in its argument."""
    verifier = LogVerifier(msgspec.json.decode(sys.argv[1], type=Terms))

    def check(commits: list[Stored]) -> bytes:
        for stored in commits:
            verifier.check(stored)
        return msgspec.json.encode(verifier.report())

    serve(check)


if __name__ == "__main__":
    main()
