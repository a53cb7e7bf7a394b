"""What people ask about: read models in SQLite, the audit queries over them, and replay.

Knows the events and never how they are decided. A projection is one file: its table, `apply(commit)`, its queries.
Everything in the read model comes from the log, so deleting the file and starting again gives the same one.
"""
