"""Room 2: accepted rows become a registered challenger."""
