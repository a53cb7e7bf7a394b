"""`/metrics`, `/livez` and `/readyz`, and the figures behind them.

This room imports `heirloom.broker` and `heirloom.process`. Start with `http`.
"""
