"""Tests, before the service serves, what strangers may do on a broker.

This room imports `heirloom.broker`. Start with `doors`.
"""
