"""The parts of a commit's subject."""

import pytest

from events.aggregates import subjects
from events.aggregates.subjects import AggregateName


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (subjects.tenant("acme").live, AggregateName("acme", "tenant", "acme")),
        (subjects.client("acme", "web").live, AggregateName("acme", "client", "web")),
        (subjects.family("acme", "f1").live, AggregateName("acme", "family", "f1")),
        (subjects.family("acme", "f1").revoked, AggregateName("acme", "family", "f1")),
        (subjects.subject("acme", "alice").live, AggregateName("acme", "subject", subjects.subject_digest("alice"))),
    ],
)
def test_a_subject_names_its_aggregate(subject: str, name: AggregateName) -> None:
    """Tenant, kind and id are at the same places for every kind; a tenant is its own id."""
    assert AggregateName.parse(subject) == name
