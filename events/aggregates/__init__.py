"""The aggregates: their events, their states, and how each event changes a state; pure.

It imports none of our other packages. Start with `family`.
"""
