"""The log: its stream, how commits are loaded and appended, and how it is read in order.

It imports `events.aggregates` and `events.bus`. Start with `log`.
"""
