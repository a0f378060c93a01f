"""Scoring: the champion scores the current customers, and the list that the bank acts on is published."""
