"""Formats of sound files: how each is laid out, and how much of it is there."""
