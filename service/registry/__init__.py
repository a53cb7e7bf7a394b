"""What every replica holds in memory: tenants, clients, keys, roles, blocked OAuth subjects.

Start with `registry`.
"""
