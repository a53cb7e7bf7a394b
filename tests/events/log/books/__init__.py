"""A model of closing a book of the log (ADR 43), searched in every order before it is built. Start with `model`."""
