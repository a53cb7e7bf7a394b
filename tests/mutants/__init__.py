"""Mutation testing: single faults that a module's own tests must detect (`make mutants`)."""
