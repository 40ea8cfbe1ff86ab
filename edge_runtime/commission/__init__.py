"""`edge-detect commission`: whether this box, with its microphone and model, can do what it is there for."""
