"""The review: what the ledger says of production, nights, data and images, as pages for people and as JSON for programs."""
