"""The read model in SQLite, fed with the log, and the audit queries over it.

This package knows the events, but not how they are decided. A projection is one file: its table, `apply(commit)` and
its queries. Everything in the read model comes from the log, so a deleted file is built again with the same content.
"""
