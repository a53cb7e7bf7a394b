"""The commands that are no audit, one file each.

It imports `heirloom.cli` and what that may import. Start with `up`.
"""
