"""A tenant's history under another policy: the query, its worker process, the findings.

Start with `query`.
"""
