"""The grant types of the token endpoint: one file for each, named by its RFC's word.

Start with `refresh_token`.
"""
