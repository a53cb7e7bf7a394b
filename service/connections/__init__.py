"""Connections to the broker: which are admitted, with which permissions, and when they end.

Start with `admission`. `auth_callout` answers the broker, `connection_counts` bounds connections, `token_connections`
and `disconnect` end them.
"""
