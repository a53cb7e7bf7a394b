"""Following the log into the read model, in a process of its own.

It imports `projections.read_model` and `projections.queries`. Start with `follower`.
"""
