"""The read model's tables: the rows that a commit writes, and the queries that read them.

This room imports `events` and the modules beside it. Start with `families`.
"""
