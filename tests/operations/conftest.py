"""One service with everything on, for the tests that look at it from outside."""

from collections.abc import Iterator

import pytest

from tests.system.service import SEED, Service, running

EVERYTHING = f"""{SEED}
[[client]]
tenant = "acme"
client_id = "tv"
grant_types = ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"]
scope = "read offline_access"
token_endpoint_auth_method = "none"

[[client]]
tenant = "acme"
client_id = "app"
grant_types = ["authorization_code", "refresh_token"]
scope = "openid read offline_access"
redirect_uris = ["https://app.example/cb"]
token_endpoint_auth_method = "none"

[[client]]
tenant = "acme"
client_id = "opaque"
grant_types = ["refresh_token"]
scope = "read offline_access"
access_token_format = "opaque"
may_issue = true
may_authorize = true
"""


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Two replicas, the read model, the notary, metrics and health."""
    data = tmp_path_factory.mktemp("operations") / "data"
    with running(data, "--metrics", "0", "--replicas", "2", seed=EVERYTHING) as service:
        yield service
