"""The base of every room: storage, ledger and columnar work."""
