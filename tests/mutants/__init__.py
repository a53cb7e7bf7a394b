"""Faults put in one at a time: which of them does no test of the module notice? (`make mutants`)"""
