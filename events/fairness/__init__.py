"""Who is served next, and how much one asker may ask for: fair queues, token buckets, the gate of rare requests.

It imports `events.aggregates` and `events.bounded_map`. Start with `fair_queue`.
"""
