"""Other streams and consumers: in memory, durable, pulled, and streams that are not ours.

It imports `events.bus` and `events.log`. Start with `memory_stream`.
"""
