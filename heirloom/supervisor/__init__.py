"""`heirloom up`: starts, watches and stops brokers and processes.

This room imports `heirloom.broker`, `heirloom.metrics` and `heirloom.backup`. Start with `supervisor`.
"""
