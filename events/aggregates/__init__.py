"""The aggregates: their events, their states, and how each event changes a state; pure.

Start with `family`.
"""
