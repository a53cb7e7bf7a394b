"""`heirloom up`: starts, watches and stops brokers and processes.

Start with `supervisor`.
"""
