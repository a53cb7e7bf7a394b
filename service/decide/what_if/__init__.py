"""A family's recorded requests, decided once more under another policy. Pure.

Start with `rerun`, which decides on each `presentation`.
"""
