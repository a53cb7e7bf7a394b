"""Client authentication: by secret, by signed assertion, by subject.

Start with `authentication`.
"""
