"""Connections to the broker: who is admitted, with which permissions, and when a connection ends.

It imports `service.access_tokens` and `service.clients`. Start with `auth_callout`.
"""
