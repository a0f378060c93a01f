"""A whole run as plain calls: what the DAGs wire, and what `churn run` does in one process."""
