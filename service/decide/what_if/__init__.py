"""A family's recorded requests, decided once more under another policy. Pure.

It imports `service.decide`. Start with `rerun`.
"""
