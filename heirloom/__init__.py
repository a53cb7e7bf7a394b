"""The commands, the processes they start, and the one place where things are put together (`app.py`)."""

__version__ = "0.1.0"
"""Here, and from here in the package: to look it up among the installed ones takes every command 40 ms."""
