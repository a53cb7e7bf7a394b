"""What replicas share: leases, appended commits, completed cut-offs, waiting devices, the broker's clock.

Start with `leases`.
"""
