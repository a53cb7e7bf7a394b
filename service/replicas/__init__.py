"""What replicas share: leases, appended commits, completed cut-offs, waiting devices, the broker's clock.

Start with `leases`. `appended` and `completed_cut_offs` are news of one replica to the others; `waiting_devices`,
`device_polls` and `user_code_guesses` belong to the device flow; `broker_clock` is the time that all of them have.
"""
