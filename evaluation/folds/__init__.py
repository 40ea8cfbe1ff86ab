"""The protocol of folds: who is judged by whom, the figures of out-of-fold scores, and the ledger of dev2."""
