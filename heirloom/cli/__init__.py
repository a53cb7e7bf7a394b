"""The command line: the commands, their parameters, and how they reach the service.

Start with `main`.
"""
