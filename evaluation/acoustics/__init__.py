"""What happens to sound between a mouth and a detector: noise, codecs, rooms, loudspeakers, filters."""
