"""Microphones: which there are, one stream of one of them, and the process that holds it."""
