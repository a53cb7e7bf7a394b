"""The aggregates: their events, their states, and what each event does to a state. Pure.

It imports nothing of the house. Start with `family`.
"""
