"""`heirloom audit …`: one file a command, or a few of the same form.

This room imports `heirloom.cli` and what that may import. Start with `group`.
"""
