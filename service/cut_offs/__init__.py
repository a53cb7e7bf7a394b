"""Cut-offs: carried out on every family.

It imports `service.context` and what stands below it. Start with `reactor`.
"""
