"""The security team's console: Datasette over the read model, behind a gate of our own.

gate.py       who may come in: host, session, methods, paths, security headers
login.py      the login token, sessions, and how often somebody may guess
database.py   the read model, opened so that nothing can be written and only the views can be read
tables.py     what the views are, in words        queries.py    what can be asked
dashboard.py  the front page                      plugin.py     Datasette's hooks
serve.py      puts it together and serves it      templates/, static/
"""
