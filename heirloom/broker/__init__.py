"""The broker: its configuration, its process or cluster, its disk, and our credentials for it.

This room imports `heirloom.process`. Start with `nats_server`.
"""
