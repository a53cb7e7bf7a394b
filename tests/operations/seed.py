"""Clients for every grant and every way of authentication."""

from tests.system.service import SEED

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
