"""What a score means: the quality of the sound, verdicts and summaries."""
