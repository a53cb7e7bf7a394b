"""Worker processes, which work on commits while their parent reads the next ones.

Start with `parent`.
"""
