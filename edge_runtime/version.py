"""The version of the program and of its wheel."""

__version__ = "0.1.0"
