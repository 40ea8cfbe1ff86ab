"""One run of the program: sources are opened, blocks go through the detector to reports, until it is stopped."""
