"""The engines: each makes sound of one family of synthesizers."""
