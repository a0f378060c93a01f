"""The data contracts that ship with the product."""
