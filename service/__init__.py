"""Deciding: what is asked over the bus, what is answered, and what is written before the answer.

One way through the house: request → load → decide → append → reply.
"""
