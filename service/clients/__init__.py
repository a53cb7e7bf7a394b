"""Client authentication: by secret, by signed assertion, by subject.

Start with `authentication`. `assertion` is for `private_key_jwt` (RFC 7523).
"""
