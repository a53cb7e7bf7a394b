"""Client authentication: by secret, by signed assertion, by subject.

It imports `service.context` and what stands below it. Start with `authentication`.
"""
