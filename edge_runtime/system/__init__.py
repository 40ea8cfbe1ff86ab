"""What of the operating system several rooms use: processes of our own, queued lines, facts of the machine."""
