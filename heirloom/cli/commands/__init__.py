"""The commands outside of the audit, one file each.

Start with `up`.
"""
