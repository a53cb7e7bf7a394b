"""Load, decide, append: the only way in which a family changes.

It imports `service.decide`, `service.keys` and `service.registry`. Start with `families`.
"""
