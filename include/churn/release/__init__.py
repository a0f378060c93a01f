"""Room 4: a decision becomes production."""
