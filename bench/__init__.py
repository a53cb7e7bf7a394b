"""Measures what the service costs, beside yardsticks on the same machine: `python -m bench`.

One file for each measurement. Figures are shown and never asserted, because a slow machine is not an error.
"""
