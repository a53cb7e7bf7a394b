"""Clients for every grant and every authentication method."""

from events.aggregates.family import DEVICE_GRANT
from tests.seed import client, seed
from tests.system.service import SEED

EVERYTHING = seed(
    SEED,
    client(
        "tv",
        grant_types=[DEVICE_GRANT, "refresh_token"],
        scope="read offline_access",
        token_endpoint_auth_method="none",
    ),
    client(
        "app",
        grant_types=["authorization_code", "refresh_token"],
        scope="openid read offline_access",
        redirect_uris=["https://app.example/cb"],
        token_endpoint_auth_method="none",
    ),
    client(
        "opaque",
        grant_types=["refresh_token"],
        scope="read offline_access",
        access_token_format="opaque",
        may_issue=True,
        may_authorize=True,
    ),
)
