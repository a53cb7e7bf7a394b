"""Backups: making, verifying and restoring them.

This room imports `heirloom.broker` and `heirloom.process`. Start with `backup`.
"""
