"""The mutated modules and the tests that must detect every fault: each module's own, so that a run takes minutes."""

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


DECISIONS = (
    "access_token_claims", "access_token_lifetime", "authorization_code", "client", "cut_off", "decision",
    "device_authorization", "issue", "refresh_token", "revocation", "token_exchange", "token_size",
    "what_if/presentation",
)  # fmt: skip
DECIDED = (
    "tests/service/decide/test_*.py",
    "tests/service/decide/what_if/test_presentation.py",
    "tests/service/replicas/test_broker_clock.py",
)

GROUPS = (
    Group("decide", tuple(f"service/decide/{name}.py" for name in DECISIONS), DECIDED),
    Group("what_if", ("service/decide/what_if/rerun.py",), ("tests/service/decide/what_if/test_rerun.py",)),
    Group(
        "family",
        ("events/aggregates/family.py", "events/aggregates/family_events.py", "events/aggregates/family_commit.py"),
        (
            "tests/events/aggregates/test_family.py",
            "tests/events/aggregates/test_family_commit.py",
            "tests/events/aggregates/test_golden.py",
        ),
    ),
    Group(
        "tokens",
        ("service/keys/mac_tokens.py", "events/base64url.py"),
        (
            "tests/service/keys/test_mac_tokens.py",
            "tests/service/keys/test_signing_key.py",
            "tests/events/test_base64url.py",
        ),
    ),
    Group(
        "leases",
        ("service/replicas/leases.py", "service/replicas/completed_cut_offs.py"),
        ("tests/service/replicas/test_leases.py", "tests/service/replicas/test_completed_cut_offs.py"),
    ),
    Group(
        "registry",
        ("service/registry/registry.py", "service/registry/tenant.py"),
        ("tests/service/registry/test_*.py", "tests/service/access_tokens/test_recognise.py"),
    ),
    Group(
        "families",
        tuple(f"service/families/{name}.py" for name in ("families", "cache", "earlier_keys")),
        tuple(
            f"tests/service/families/test_{name}.py"
            for name in ("cache", "families_by_itself", "families", "reads_and_races")
        ),
    ),
    Group(
        "clients",
        ("service/clients/authentication.py", "service/clients/assertion.py"),
        ("tests/service/clients/test_authentication.py", "tests/service/registry/test_parse_settings.py"),
    ),
    Group(
        "callout",
        ("service/connections/auth_callout.py",),
        ("tests/service/connections/test_turns.py", "tests/service/connections/test_auth_callout.py"),
    ),
    Group("appender", ("events/log/appender.py",), ("tests/events/log/test_appender_by_itself.py",)),
    Group("log", ("events/log/log.py", "events/log/newest_message.py"), ("tests/events/log/test_log.py",)),
    Group(
        "stream",
        ("events/log/stream.py", "events/log/jetstream_api.py"),
        ("tests/events/log/test_stream.py", "tests/events/jetstream/test_other_streams.py"),
    ),
    Group(
        "verify",
        ("events/verification/verifier.py", "events/verification/chain.py", "events/aggregates/kinds.py"),
        (
            "tests/events/verification/test_verifier.py",
            "tests/events/verification/test_impossible_histories.py",
            "tests/events/verification/test_chain.py",
        ),
    ),
    Group(
        "rules",
        ("events/aggregates/family_rules.py", "events/aggregates/following.py"),
        ("tests/events/aggregates/test_*.py", "tests/events/verification/test_impossible_histories.py"),
    ),
    Group(
        "proofs",
        tuple(f"notary/{name}.py" for name in ("merkle_tree", "signed_note", "checkpoint", "inclusion_proof")),
        tuple(
            f"tests/notary/test_{name}.py" for name in ("merkle_tree", "signed_note", "checkpoint", "inclusion_proof")
        ),
    ),
    Group(
        "vouching",
        tuple(
            f"notary/{name}.py" for name in ("key_files", "newest_checkpoint", "merged_reader", "checkpoint_checker")
        ),
        tuple(
            f"tests/notary/test_{name}.py"
            for name in ("key_files", "newest_checkpoint", "merged_reader", "checkpoint_checker")
        ),
    ),
    Group(
        "notary",
        ("notary/notary.py", "notary/log_verifier.py"),
        tuple(f"tests/notary/test_{name}.py" for name in ("notary_by_itself", "log_verifier")),
    ),
)


def _found(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))
