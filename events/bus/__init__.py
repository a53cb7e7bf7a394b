"""The connection to NATS: its parser, what is checked of a broker, and FastStream on it.

It imports `events.aggregates` and `events.fairness`. Start with `connection`.
"""
