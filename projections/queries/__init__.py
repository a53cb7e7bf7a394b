"""The audit queries: parameters, answers, and the server that receives them on the bus.

It imports `projections.tables` and `projections.read_model`. Start with `server`.
"""
