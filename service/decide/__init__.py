"""Deciding: a function takes a family's state and a command, and returns an outcome with the events to append.

Pure: no I/O, no clock, no randomness; `now`, ids, seeds and keys come with the command. A refusal may need events of
its own (a reuse is refused and also revokes), so a decision returns both and raises nothing. A decision without events
appends nothing; it must be made on the state that the stream's leader has. It imports `events.aggregates`, and of the
service only what is below it.

Start with `decision`, then `refresh_token`. One file for each command: `authorization_code`, `client`, `cut_off`,
`device_authorization`, `issue`, `revocation`, `token_exchange`; what they share: `access_token_claims`,
`access_token_lifetime`, `policy`, `scope`, `token_size`.
"""
