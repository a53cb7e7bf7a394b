"""One running service, with a notary, for the tests of permissions."""

from collections.abc import Iterator

import pytest

from tests.seed import client, seed, tenant
from tests.system.service import Service, running

SEED = seed(
    tenant("acme", issuer="https://acme.example"),
    client("web", grant_types=["refresh_token", "client_credentials"], scope="read offline_access", may_issue=True),
    client("other", grant_types=["refresh_token"], scope="read offline_access"),
    tenant("globex"),
    client("web", "globex", grant_types=["refresh_token"], scope="read offline_access", may_issue=True),
)


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas and a notary on their own broker."""
    data = tmp_path_factory.mktemp("security") / "data"
    with running(data, "--replicas", "2", "--notary", seed=SEED) as service:
        yield service
