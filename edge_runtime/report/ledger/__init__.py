"""The ledger: every minute of listening in one SQLite file."""
