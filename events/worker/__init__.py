"""Worker processes, which work on commits while their parent reads the next ones.

It imports `events.log`. Start with `parent`.
"""
