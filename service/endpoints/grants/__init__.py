"""The grant types of the token endpoint: one file for each, named by its RFC's word.

Start with `refresh_token`; the others are `authorization_code`, `client_credentials`, `device_code` and
`token_exchange`. `token_request` has the parameters of all, `idempotency` the digest of a retry.
"""
