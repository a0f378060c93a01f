"""What every room stands on: storage, ledger, columnar work."""
