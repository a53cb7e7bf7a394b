"""The read model's tables: the rows that a commit writes, and the queries that read them.

Start with `families`.
"""
