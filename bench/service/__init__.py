"""What the service costs, one file a question.

It imports the whole house. Start with `refresh`.
"""
