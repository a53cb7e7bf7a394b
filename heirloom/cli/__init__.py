"""The command line: the command, its parameters, and how it reaches the service.

It imports everything else in `heirloom`. Start with `main`.
"""
