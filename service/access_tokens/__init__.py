"""Access tokens: recognised, and issued in a token response.

It imports `service.context` and what stands below it. Start with `token_response`.
"""
