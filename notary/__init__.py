"""Evidence that the log is what it was: RFC 6962 trees over it, and signed checkpoints of them in it.

Knows the events, and nothing of how they are decided or asked about. The tree's leaves are *all* messages of the
stream in its order, earlier checkpoints among them: leaf i is the body of sequence i + 1. So a tree's size is a
sequence, and what a checkpoint of size n vouches for is the log up to sequence n.
"""
