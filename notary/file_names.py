"""The names of the notary's files in a data directory. They import nothing: every command knows them."""

KEY = "notary.key"
"""The private key."""
PUBLIC_KEY = "notary.pub"
"""The public keys, beside the private one: the notary's own, and its earlier ones."""
STATE = "notary.state"
"""The tree that was signed last."""
