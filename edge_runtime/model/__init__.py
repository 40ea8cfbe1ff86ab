"""The model on the device: its contract, its front end and its network."""
