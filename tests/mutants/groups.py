"""What is mutated, and the tests that must notice it: the module's own, so that a run takes minutes."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Group(NamedTuple):
    """Modules whose mutants are tested together. Paths and patterns are relative to the root."""

    name: str
    modules: tuple[str, ...]
    tests: tuple[str, ...]

    def sources(self) -> list[str]:
        """The modules' files."""
        return [path for pattern in self.modules for path in _found(pattern) if not path.endswith("__init__.py")]

    def test_files(self) -> list[str]:
        """The tests' files."""
        return [path for pattern in self.tests for path in _found(pattern)]


DECIDING = (
    "claimed", "code", "cut_off", "enable", "exchange", "lifetime", "outcome", "recorded", "redeem", "size",
)  # fmt: skip
DECIDED = tuple(f"tests/service/test_{name}.py" for name in (*DECIDING, "clocks", "whole"))

GROUPS = (
    Group("decide", tuple(f"service/decide/{name}.py" for name in (*DECIDING, "device", "issue", "revoke")), DECIDED),
    Group("what_if", ("service/decide/what_if.py",), ("tests/service/test_what_if.py",)),
    Group("family", ("events/family.py",), ("tests/events/test_family.py", "tests/events/test_golden.py")),
    Group("tokens", ("service/tokens.py",), ("tests/service/test_tokens.py", "tests/service/test_keys.py")),
    Group(
        "leases",
        ("service/replicas.py", "service/completed.py"),
        ("tests/service/test_replicas.py", "tests/service/test_completed.py"),
    ),
    Group(
        "registry",
        ("service/registry.py",),
        tuple(
            f"tests/service/test_{name}.py" for name in ("registry_in_memory", "registry", "lifetimes", "access_token")
        ),
    ),
    Group(
        "families",
        ("service/families.py",),
        tuple(f"tests/service/test_{name}.py" for name in ("families_by_itself", "families", "reads_and_races")),
    ),
    Group(
        "clients",
        ("service/client_authentication.py", "service/client_assertion.py"),
        ("tests/service/test_client_authentication.py", "tests/service/test_registration.py"),
    ),
    Group("callout", ("service/callout.py",), ("tests/service/test_turns.py", "tests/service/test_callout.py")),
    Group("appender", ("events/appender.py",), ("tests/events/test_appender_by_itself.py",)),
    Group("log", ("events/log.py", "events/newest.py"), ("tests/events/test_log.py",)),
    Group("stream", ("events/stream.py",), ("tests/events/test_stream.py", "tests/events/test_other_streams.py")),
    Group(
        "verify",
        ("events/verify.py", "events/chain.py", "events/kinds.py"),
        ("tests/events/test_verify.py", "tests/events/test_rules.py", "tests/events/test_chain.py"),
    ),
    Group(
        "rules",
        ("events/rules.py", "events/following.py"),
        tuple(f"tests/events/test_{name}.py" for name in ("rules_one_by_one", "rules", "following")),
    ),
    Group(
        "proofs",
        tuple(f"notary/{name}.py" for name in ("merkle", "note", "checkpoint", "proof")),
        tuple(f"tests/notary/test_{name}.py" for name in ("merkle", "note", "checkpoint", "proof")),
    ),
    Group(
        "vouching",
        tuple(f"notary/{name}.py" for name in ("key", "newest", "vouched", "witness")),
        tuple(f"tests/notary/test_{name}.py" for name in ("key", "newest", "vouched", "witness")),
    ),
    Group(
        "notary",
        ("notary/notary.py", "notary/verify.py"),
        tuple(f"tests/notary/test_{name}.py" for name in ("notary_by_itself", "verify")),
    ),
)


def _found(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))
