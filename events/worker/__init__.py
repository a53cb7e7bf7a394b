"""Commits on their way to a worker process, which works on some while the next are read.

It imports `events.log`. Start with `parent`.
"""
