"""Sound cards without hardware: servers in user space that alsa-lib shows as `hw:1`."""
