"""The read model's tables: what a commit writes to each, and what is read from it.

It imports `events` and the modules beside this room. Start with `families`.
"""
