"""Room 1: a file becomes accepted rows."""
