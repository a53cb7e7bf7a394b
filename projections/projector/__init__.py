"""The projector: applies the log to the read model, in a process of its own.

This room imports `projections.read_model` and `projections.queries`. Start with `follower`.
"""
