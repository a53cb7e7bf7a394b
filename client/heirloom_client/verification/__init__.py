"""Access tokens verified here, with the revocations that the service publishes (RFC 9068; contract §8).

It imports `endpoint` and what that stands on. Start with `verifier`; `access_token` is the signature and the claims,
`revoked` and `feed` are what is known, `follower` hears it by a `resource`, `snapshot` keeps it over a restart.
"""
