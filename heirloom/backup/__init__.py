"""Backups: making, verifying and restoring them.

Start with `backup`.
"""
