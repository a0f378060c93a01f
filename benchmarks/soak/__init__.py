"""A month of nights in a row, with everything that goes wrong in one: `make soak`."""
