"""What can be requested over the bus: one file an endpoint, named by its RFC's word.

It imports `service.access_tokens`, `service.clients` and what stands below them. Start with `token`.
"""
