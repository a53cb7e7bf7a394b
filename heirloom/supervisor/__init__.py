"""`heirloom up`: brokers and processes started, watched and ended.

It imports `heirloom.broker`, `heirloom.metrics` and `heirloom.backup`. Start with `supervisor`.
"""
