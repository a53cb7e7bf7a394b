"""Seeded bugs: each breaks one promise, and the harness must detect it. The product has none of them."""

from collections.abc import Callable
from typing import NamedTuple

from tests.faults.seeded_bugs import read_model_bugs, replica_bugs


class Bug(NamedTuple):
    """`process` is the kind of process that has it; `switch_on` breaks the product there."""

    process: str
    switch_on: Callable[[], None]


BUGS: dict[str, Bug] = {
    "no compare-and-swap": Bug("replica", replica_bugs.no_compare_and_swap),
    "acknowledged before the append": Bug("replica", replica_bugs.acknowledged_before_append),
    "stale cache believed": Bug("replica", replica_bugs.stale_cache_believed),
    "introspection from a stale read": Bug("replica", replica_bugs.introspection_from_a_stale_read),
    "reuse event dropped": Bug("replica", replica_bugs.reuse_event_dropped),
    "grace accepts grandparents": Bug("replica", replica_bugs.grace_accepts_grandparents),
    "grace for everybody": Bug("replica", replica_bugs.grace_for_everybody),
    "revocation checked before the load": Bug("replica", replica_bugs.decided_once),
    "lost acknowledgement taken for a failure": Bug("replica", replica_bugs.lost_acknowledgement_is_a_failure),
    "another successor on retry": Bug("replica", replica_bugs.another_successor_on_retry),
    "revocation told before its commit": Bug("replica", replica_bugs.revocation_told_before_commit),
    "any key is a retry": Bug("replica", replica_bugs.any_key_is_a_retry),
    "any key is a late duplicate's": Bug("replica", replica_bugs.any_key_is_a_late_duplicates),
    "dead families rotate": Bug("replica", replica_bugs.dead_families_rotate),
    "state of the commit before": Bug("replica", replica_bugs.state_of_the_commit_before),
    "applied twice": Bug("writer", read_model_bugs.double_apply),
    "checkpoint in its own transaction": Bug("writer", read_model_bugs.checkpoint_in_its_own_transaction),
    "commits dropped on the way to the read model": Bug("projector", read_model_bugs.commits_dropped_by_the_reader),
}


def switch_on(name: str, process: str) -> None:
    """Break this process, if the bug belongs to its kind."""
    bug = BUGS[name]
    if bug.process == process:
        bug.switch_on()
