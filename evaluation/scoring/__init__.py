"""Scores of many clips: by several processes or a cluster, kept in a store, of clips as they are or changed."""
