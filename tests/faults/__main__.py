"""`make faults`: a long run."""
