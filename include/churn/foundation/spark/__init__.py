"""Data work on several machines: Spark moves the parts, and the same code works on them as on one machine."""
