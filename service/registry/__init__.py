"""What every replica holds in memory: tenants, clients, keys, roles, blocked OAuth subjects.

Start with `registry`; `tenant` is most of what it holds, beside `blocked_subjects` and each `named_role` of
`broker_accounts`. `change_aggregate` appends to these aggregates, `parse_settings` checks an operator's settings.
"""
