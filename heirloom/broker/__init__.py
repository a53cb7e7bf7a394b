"""The broker: its configuration, its process or cluster, its disk, and our credentials for it.

It imports `heirloom.process`. Start with `nats_server`.
"""
