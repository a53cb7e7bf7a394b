"""Connections to the broker: which are admitted, with which permissions, and when they end.

It imports `service.access_tokens` and `service.clients`. Start with `auth_callout`.
"""
