"""The projector: applies the log to the read model, in a process of its own.

Start with `follower`.
"""
