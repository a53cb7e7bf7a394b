"""The service's own secrets, and everything derived from them: tokens, signatures, MACs, passwords.

It imports `events`. Start with `mac_tokens`.
"""
