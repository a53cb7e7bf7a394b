"""The console's tests.

Datasette opens a connection each time to find SQLite's version and JSON support, and does not close it, which
Python 3.13 reports. Here the version is given, and one connection is shared.
"""

import functools
import sqlite3

import datasette.utils

LENT = sqlite3.connect(":memory:", check_same_thread=False)
datasette.utils.detect_json1 = functools.partial(datasette.utils.detect_json1, LENT)
datasette.utils.sqlite._cached_sqlite_version = sqlite3.sqlite_version_info
