"""Verification of the log, commit by commit.

It imports `events.aggregates` and `events.log`. Start with `verifier`.
"""
