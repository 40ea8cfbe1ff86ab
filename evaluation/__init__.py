"""What a detector is worth: lists of clips, scores, error rates and their intervals. A library without commands."""
