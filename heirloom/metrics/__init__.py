"""`/metrics`, `/livez` and `/readyz`, and the figures behind them.

Start with `http`.
"""
