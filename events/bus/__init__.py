"""The connection to NATS: its parser, the checks on a broker, and FastStream on it.

Start with `connect`.
"""
