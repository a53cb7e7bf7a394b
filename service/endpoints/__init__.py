"""The endpoints on the bus: one file for each, named by its RFC's word.

Start with `token`.
"""
