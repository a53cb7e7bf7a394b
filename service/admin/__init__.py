"""Administration over the bus (CONTRACT §5): settings, clients, revocation by an operator.

Each operation is a coroutine `(AdminContext, tenant, body) -> bytes`: the reply's JSON. A refusal is an `OAuthError`.
"""
