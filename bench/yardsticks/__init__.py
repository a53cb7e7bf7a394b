"""Yardsticks to compare figures with: bare appends, a signature, the disk.

Start with `appends`.
"""
