"""The review: what the ledger says about production, runs, data and images, as pages for people and as JSON for programs."""
