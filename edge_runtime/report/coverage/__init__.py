"""`edge-detect coverage`: what a ledger says of a time."""
