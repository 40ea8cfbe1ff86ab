"""Clips of public demo pages of speech synthesis, cut out of local clones as a list says (`training/pages.csv`)."""
