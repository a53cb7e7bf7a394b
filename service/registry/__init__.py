"""What every replica holds in memory: tenants, clients, keys, roles, blocked OAuth subjects.

It imports `service.decide` and `service.keys`. Start with `registry`.
"""
