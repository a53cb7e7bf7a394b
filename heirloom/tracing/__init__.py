"""OpenTelemetry spans from the request to the commit.

It imports `service`. Start with `setup`.
"""
