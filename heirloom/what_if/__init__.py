"""A tenant's history under another policy: the query, its worker process, the findings.

This room imports `service.decide.what_if` and `projections`. Start with `query`.
"""
