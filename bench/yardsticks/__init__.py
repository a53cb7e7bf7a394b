"""What a figure is compared with: bare appends, a signature, the disk, the machine.

It imports nothing of the house but `events`. Start with `appends`.
"""
