"""What `python -m training adapt` is made of: recordings, copies of them, the room, the descent, the card."""
