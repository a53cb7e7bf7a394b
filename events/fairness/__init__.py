"""Fairness between requesters: fair queues, token buckets, and the gate for rare requests.

It imports `events.aggregates` and `events.bounded_map`. Start with `fair_queue`.
"""
