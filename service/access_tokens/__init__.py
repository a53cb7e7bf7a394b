"""Access tokens: recognised, and issued in a token response.

Start with `token_response`.
"""
