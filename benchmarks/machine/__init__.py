"""The machine that figures are taken on: what it is, its state, the processes, memory and energy of a run."""
