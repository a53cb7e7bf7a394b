"""Other streams and consumers: in memory, durable, pulled, and streams that are not ours.

Start with `memory_stream`.
"""
