"""`/metrics`, `/livez`, `/readyz`, and where their figures come from.

It imports `heirloom.broker` and `heirloom.process`. Start with `http`.
"""
