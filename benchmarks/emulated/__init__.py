"""Instructions counted on an emulated 64-bit ARM: QEMU with a plugin, what runs under it, the system around it."""
