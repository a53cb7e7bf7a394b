"""OpenTelemetry spans from the request to the commit.

Start with `setup`.
"""
