"""What a microphone, a room and a channel do to a voice."""
