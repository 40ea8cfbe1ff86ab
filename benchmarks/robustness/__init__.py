"""What changes a score that should not: noise, codecs, rooms, level, and whatever else betrays a label."""
