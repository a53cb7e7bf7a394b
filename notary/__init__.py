"""Evidence that the log was not changed: RFC 6962 trees over it, and signed checkpoints of them beside it.

It imports `events` only. The tree's leaves are the messages of the log's stream in their order: leaf i is the body of
sequence i + 1. So a tree's size is a sequence, and a checkpoint of size n covers the log up to sequence n. Checkpoints
have a stream of their own. Start with `notary`.
"""
