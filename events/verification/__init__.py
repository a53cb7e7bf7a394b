"""Verification of the log, commit by commit.

Start with `verifier`.
"""
