"""Deciding: a function takes a family's state and a command, and returns an outcome with the events to append.

Pure: no I/O, no clock, no randomness; `now`, ids, seeds and keys come with the command. A refusal may need events of
its own (a reuse is refused and also revokes), so a decision returns both and raises nothing. A decision without events
appends nothing; it must be made on the state that the stream's leader has. Start with `decision`.
"""
