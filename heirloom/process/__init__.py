"""The processes of `heirloom up`: starting, restarting, reports, log files.

This room imports `events`. Start with `child_process`.
"""
