"""Access tokens: recognised, and given in a token response.

It imports `service.context` and what stands below it. Start with `token_response`.
"""
