"""The console's tests.

Datasette asks SQLite for its version and for JSON by a connection of its own each time, and leaves it open, which
Python 3.13 reports. Here it is told the version and is lent one connection.
"""

import functools
import sqlite3

import datasette.utils

LENT = sqlite3.connect(":memory:", check_same_thread=False)
datasette.utils.detect_json1 = functools.partial(datasette.utils.detect_json1, LENT)
datasette.utils.sqlite._cached_sqlite_version = sqlite3.sqlite_version_info
