"""The grant types of the token endpoint: one file for each, named by its RFC's word.

It imports what `service.endpoints` may import. Start with `refresh_token`.
"""
