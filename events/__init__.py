"""What happened, and what it means: the aggregates' events and states, the commit envelope, and the log they lie in.

Knows nobody: neither how decisions are taken (`service`) nor what is asked about them (`projections`).
"""
