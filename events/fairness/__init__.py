"""Who is served next, and how much one asker may ask for: fair queues, token buckets, the gate of rare requests.

It imports `events.aggregates`. Start with `fair_queue`.
"""
