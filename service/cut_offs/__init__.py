"""Cut-offs: carried out on every family, and the wait until they are complete.

It imports `service.context` and what stands below it. Start with `reactor`.
"""
