"""What people are told of, once for each event: events and silence become alerts, an outbox sends them."""
