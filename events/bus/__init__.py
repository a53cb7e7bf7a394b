"""The connection to NATS: its parser, the checks on a broker, and FastStream on it.

It imports `events.aggregates` and `events.fairness`. Start with `connect`.
"""
