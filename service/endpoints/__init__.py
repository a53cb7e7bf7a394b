"""What can be asked over the bus: one file an endpoint, named by its RFC's word.

Each is a coroutine `(Context, Request) -> bytes`, the reply's JSON; refusals are raised as `OAuthError`.
"""
