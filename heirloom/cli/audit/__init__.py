"""`heirloom audit …`: one file a command, or a few that share their form.

It imports `heirloom.cli` and what that may import. Start with `group`.
"""
