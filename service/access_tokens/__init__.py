"""Access tokens: recognised, and issued in a token response.

Start with `token_response`, which has the claims of an `issued_token`, or an `opaque` text. `open_family` appends a new
family first, `recognise` reads a token.
"""
