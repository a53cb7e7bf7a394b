"""Rules for a log that clients have written through the service, and for its copies."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tests.faults.checking.log_index import LogIndex
from tests.faults.history import Operation


class Violation(NamedTuple):
    """A broken rule, and where: an operation's number in the history, or a sequence in the log."""

    rule: str
    where: str


def log_violations(operations: Sequence[Operation], log: LogIndex) -> list[Violation]:
    """Commits that no client asked for, and acknowledged ones that are missing."""
    violations = [Violation(rule, where) for rule, where in log.faults]
    acknowledged = {operation.commit for operation in operations if operation.outcome == "ok"}
    unknown = {
        (operation.family, operation.generation)
        for operation in operations
        if operation.kind == "refresh" and operation.outcome == "info"
    }
    opened = {operation.family for operation in operations if operation.kind == "issue" and operation.outcome == "ok"}
    perhaps = sum(operation.kind == "issue" and operation.outcome == "info" for operation in operations)
    revoked = {
        operation.family for operation in operations if operation.kind == "revoke" and operation.outcome != "fail"
    }
    told = {operation.family for operation in operations if _was_told_the_end(operation, log)}
    presented = _presented_again(operations, log)
    for name, family in log.families.items():
        for generation, commit in family.rotations:
            if commit not in acknowledged and (name, generation) not in unknown:
                violations.append(Violation("a failed request is not in the log", f"{name} rotated {generation}"))
        if family.reason == "client_request" and name not in revoked:
            violations.append(Violation("no family ends unasked", f"{name}: client_request"))
        if family.reason == "reuse_detected" and name not in presented:
            violations.append(Violation("no family ends unasked", f"{name}: reuse_detected"))
    unasked = [name for name in log.families if name not in opened]
    if len(unasked) > perhaps:
        violations.append(Violation("a failed request is not in the log", f"families {', '.join(unasked[:5])} opened"))
    untold = [name for name in told if name not in log.families or log.families[name].reason is None]
    return violations + [Violation("an acknowledged end is in the log", name) for name in untold]


def _was_told_the_end(operation: Operation, log: LogIndex) -> bool:
    if operation.kind == "revoke":
        return operation.outcome == "ok"
    return operation.kind == "refresh" and operation.outcome == "fail" and not log.is_harmless(operation)


def _presented_again(operations: Sequence[Operation], log: LogIndex) -> set[str]:
    """Families of which a generation was presented twice, or an older one after a newer one, without its key."""
    seen: dict[str, int] = {}
    without_their_key: set[tuple[str, int]] = set()
    again: set[str] = set()
    for operation in operations:
        if operation.kind == "refresh":
            name, generation = operation.family, operation.generation
            if (name, generation) in without_their_key:
                again.add(name)
            if not log.is_harmless(operation):
                again |= {name} if generation <= seen.get(name, -1) else set()
                without_their_key.add((name, generation))
            seen[name] = max(generation, seen.get(name, -1))
    return again


def copies_differ(copies: Mapping[str, Sequence[str]]) -> list[Violation]:
    """Whether all nodes have the same log: `copies` maps a node to the digests of its messages, in order."""
    if not copies:
        return []
    first, *others = copies.items()
    violations = []
    for name, copy in others:
        if copy != first[1]:
            shorter = min(len(copy), len(first[1]))
            where = next((n for n in range(shorter) if copy[n] != first[1][n]), shorter) + 1
            sizes = f"{len(first[1])} and {len(copy)} messages"
            violations.append(
                Violation("every node has the same log", f"{first[0]} and {name} differ at {where} ({sizes})")
            )
    return violations
