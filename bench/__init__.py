"""What the service costs, measured on this machine beside its yardsticks: `python -m bench`.

One file for each thing measured. Figures are told, never asserted: a slow machine is no fault.
"""
