"""The token service: it receives requests on the bus, decides, appends to the log, and replies.

Every request takes the same way: request → load → decide → append → reply.
Start with `request_handler`.
"""
