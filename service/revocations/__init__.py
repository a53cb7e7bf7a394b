"""The revocation feed: what resource servers must know of revocations and keys, beside the log (ADR 49).

It imports events and `decide`. Start with `entries`. `publisher` follows the log and appends to the `stream` by a
`journal`; `lifetimes` says for how long entries are needed, and `pages` reads them for those who missed some.
"""
