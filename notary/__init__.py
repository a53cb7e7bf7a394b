"""Evidence that the log is what it was: RFC 6962 trees over it, and signed checkpoints of them beside it.

Knows the events, and nothing of how they are decided or asked about. The tree's leaves are the messages of the log's
stream in its order: leaf i is the body of sequence i + 1. So a tree's size is a sequence, and what a checkpoint of size
n vouches for is the log up to sequence n. Checkpoints lie in a stream of their own.
"""
