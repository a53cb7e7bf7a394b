"""The endpoints on the bus: one file for each, named by its RFC's word.

It imports `service.access_tokens`, `service.clients` and what stands below them. Start with `token`.
"""
