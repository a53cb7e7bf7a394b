"""The processes of `heirloom up`: starting, restarting, reports, log files.

Start with `child_process`.
"""
