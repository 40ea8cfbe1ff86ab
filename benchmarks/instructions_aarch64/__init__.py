"""Counting instructions on an emulated 64-bit ARM: QEMU's plugin, what runs under it, and the system around it."""
