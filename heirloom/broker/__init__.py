"""The broker: its configuration, its process or cluster, its disk, and our credentials for it.

Start with `nats_server`.
"""
