"""Load, decide, append: the only way in which a family changes.

Start with `families`.
"""
