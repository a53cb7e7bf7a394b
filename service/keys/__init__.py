"""The service's own secrets, and everything derived from them: tokens, signatures, MACs, passwords.

Start with `mac_tokens`, made under the secrets of a `keyring`. From these follow a `signing_key`, the `vouchers` in its
tokens, a `derived_password` and the `seal` of messages; not a `generated_secret`, a `user_code`, or `client_keys`.
"""
