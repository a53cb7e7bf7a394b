"""Measurements of the service, one file each.

Start with `refresh`.
"""
