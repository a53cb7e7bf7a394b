"""The programs: commands, service processes, and the composition root (`app.py`)."""

__version__ = "0.1.0"
"""The version, also of the distribution: reading it from the installed one would cost every command 40 ms."""
