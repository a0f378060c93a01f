"""`churn ...`: the command line."""
