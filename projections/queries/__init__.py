"""The audit queries: parameters, answers, and the server that receives them on the bus.

Start with `server`.
"""
