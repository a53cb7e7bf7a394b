"""Measurements of the service, one file each.

It imports the whole house. Start with `refresh`.
"""
