"""The commands, the processes they start, and the one place where things are put together (`app.py`)."""

from importlib.metadata import version

__version__ = version("heirloom")
