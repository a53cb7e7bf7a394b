"""The command line: the commands, their parameters, and how they reach the service.

This room imports everything else in `heirloom`. Start with `main`.
"""
