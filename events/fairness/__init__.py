"""Fairness between requesters: fair queues, token buckets, and the gate for rare requests.

Start with `fair_queue`.
"""
