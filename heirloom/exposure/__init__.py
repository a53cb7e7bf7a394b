"""Tests, before the service serves, what strangers may do on a broker.

Start with `doors`.
"""
