"""What replicas share: leases, appended commits, completed cut-offs, waiting devices, the broker's clock.

It imports `service.registry` and `service.families`. Start with `leases`.
"""
