"""The domain's facts: the aggregates' events and states, the commit envelope, and the log that stores them.

It imports none of the other packages: neither the decisions (`service`) nor the queries (`projections`).
"""
