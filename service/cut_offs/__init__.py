"""Cut-offs: carried out on every family.

Start with `reactor`.
"""
