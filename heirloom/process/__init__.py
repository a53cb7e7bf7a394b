"""Processes of `heirloom up`: started, restarted, reported on, with their log files.

It imports `events`. Start with `child_process`.
"""
