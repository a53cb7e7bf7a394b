"""`heirloom audit …`: one file a command, or a few of the same form.

Start with `group`.
"""
