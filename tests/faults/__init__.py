"""What is injected into the real program, and what its user then sees: the tables of docs/faults.md."""
