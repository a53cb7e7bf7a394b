"""The closing of books as a model (ADR 43), tried in every order before it is built. Start with `model`."""
