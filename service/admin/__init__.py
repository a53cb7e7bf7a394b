"""Administration over the bus (CONTRACT §5): settings, clients, revocation by an operator.

Each operation is a coroutine `(AdminContext, tenant, body) -> bytes`: the reply's JSON. A refusal is an `OAuthError`.
Start with `operations`, their table: each is in the file of its noun (`client`, `consent`, `family`, `key`, `role`,
`subject`, `tenant`). They share `parameters`, `replies`, `change_and_apply`, `cut_off_once` and `await_effect`.
"""
