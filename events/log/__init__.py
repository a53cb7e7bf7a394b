"""The log: its stream, how commits are loaded and appended, and how it is read in order.

Start with `log`.
"""
