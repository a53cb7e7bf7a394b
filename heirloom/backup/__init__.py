"""Backups: made, verified and restored.

It imports `heirloom.broker` and `heirloom.process`. Start with `backup`.
"""
