"""The log: its stream, loading and appending a commit, reading it in order.

It imports `events.aggregates` and `events.bus`. Start with `log`.
"""
