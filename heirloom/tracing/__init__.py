"""OpenTelemetry spans from the request to the commit.

This room imports `service`. Start with `setup`.
"""
