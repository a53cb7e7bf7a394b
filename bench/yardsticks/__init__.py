"""Yardsticks to compare figures with: bare appends, a signature, the disk, the machine.

It imports `events`, `heirloom`, and the load of `bench.service`. Start with `appends`.
"""
