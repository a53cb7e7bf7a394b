"""The parts of a commit's subject."""

import pytest

from events.aggregates import aggregate_names
from events.aggregates.aggregate_names import AggregateName


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (aggregate_names.tenant("acme").live, AggregateName("acme", "tenant", "acme")),
        (aggregate_names.client("acme", "web").live, AggregateName("acme", "client", "web")),
        (aggregate_names.family("acme", "f1").live, AggregateName("acme", "family", "f1")),
        (aggregate_names.family("acme", "f1").revoked, AggregateName("acme", "family", "f1")),
        (
            aggregate_names.subject("acme", "alice").live,
            AggregateName("acme", "subject", aggregate_names.subject_digest("alice")),
        ),
    ],
)
def test_a_subject_names_its_aggregate(subject: str, name: AggregateName) -> None:
    """Tenant, kind and id are at the same places for every kind; a tenant is its own id."""
    assert AggregateName.parse(subject) == name
