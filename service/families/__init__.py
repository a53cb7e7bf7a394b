"""Load, decide, append: the only way in which a family changes.

Start with `families`. `cache` is the state that an append may begin from, `earlier_keys` is what is read
of earlier commits, `counters` are metrics.
"""
