"""The commands outside of the audit, one file each.

This room imports `heirloom.cli` and what that may import. Start with `up`.
"""
