"""Room 6: what happened afterwards, compared with what was predicted."""
