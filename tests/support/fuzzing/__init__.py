"""Seeded cases of odd input, and what the product must answer to each: a result whose promises hold, or a plain, typed error.

`make test` runs some of them and all that were kept, `make fuzz` as many as it is told to. A case is bytes; it is reproduced by its
target, seed and number, or by its file.
"""
