"""Load, decide, append: the one way anything happens to a family.

It imports `service.decide`, `service.keys` and `service.registry`. Start with `families`.
"""
