"""The service's own secrets, and everything derived from them: tokens, signatures, MACs, passwords.

Start with `mac_tokens`.
"""
