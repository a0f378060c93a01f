"""Alerts: events and silence become alerts in the ledger, and an outbox sends each of them once."""
