"""Administration over the bus (CONTRACT §5): settings, clients, revocation by an operator.

Each operation is a coroutine `(Context, tenant, body) -> bytes`, the reply's JSON; refusals are raised as `OAuthError`.
"""
