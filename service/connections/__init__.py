"""Connections to the broker: which are admitted, with which permissions, and when they end.

Start with `auth_callout`.
"""
