"""The bench's long log is one that a service could have written."""

from itertools import islice

from bench.service.long_log import MadeUpLog
from events.verification.verifier import Verifier

COMMITS = 10_000


def test_it_verifies_and_is_reproducible() -> None:
    """The same seed makes the same history, another seed another one."""
    log = list(islice(MadeUpLog(), COMMITS))
    assert log[:1000] == list(islice(MadeUpLog(), 1000))
    assert log[:1000] != list(islice(MadeUpLog(seed=2), 1000))
    verifier = Verifier()
    for stored in log:
        verifier.check(stored)
    report = verifier.report()
    assert (report.commits, report.fault) == (COMMITS, None)
    assert len({stored.subject.split(".")[2] for stored in log}) == len(("tenant", "client", "subject", "family"))
    assert sum(stored.subject.endswith(".revoked") for stored in log) > COMMITS // 500
