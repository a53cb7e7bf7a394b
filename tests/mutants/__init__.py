"""Mutation testing: faults put in one at a time, each to be noticed by the module's own tests (`make mutants`)."""
