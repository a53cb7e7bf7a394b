"""The security team's console: Datasette over the read model, behind a gate of our own.

Start with `serve`, which composes it; `access_gate` decides who may come in, `database` what can be read,
`canned_queries` what can be asked.
"""
