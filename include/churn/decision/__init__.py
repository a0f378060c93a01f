"""Room 3: challenger and champion become a decision."""
