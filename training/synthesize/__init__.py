"""Make spoofed speech: vocoders over human clips (copy-synthesis) and text-to-speech engines."""
