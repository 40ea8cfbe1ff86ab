"""Smaller and faster model files; to come."""
