"""The sample generator and the faults that it plants."""
