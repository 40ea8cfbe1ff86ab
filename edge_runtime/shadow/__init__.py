"""A candidate model is tried beside the running one, on the same sound, before it may take its place."""
