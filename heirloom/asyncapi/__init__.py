"""The AsyncAPI document of every subject, made of the tables of endpoints and of the structs in them.

Start with `document`; `subjects` is what it describes. `python -m heirloom.asyncapi` writes the file that is served.
"""
