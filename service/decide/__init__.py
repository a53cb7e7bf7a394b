"""Deciding: a family's state and a command, in; an outcome and the events that make it true, out.

Pure: no I/O, no clock, no chance; `now`, ids, seeds and keys come with the command. A refusal may be a fact of its own
(reuse both revokes and refuses), so outcome and events are returned together and nothing is raised past a fact. An
outcome without events writes nothing; it must then be decided on what the stream's leader has.
"""
