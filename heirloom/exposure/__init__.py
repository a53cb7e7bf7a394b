"""What strangers may do at a broker's doors, tried before the service serves.

It imports `heirloom.broker`. Start with `doors`.
"""
