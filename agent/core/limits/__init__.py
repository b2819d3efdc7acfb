"""Rate limit algorithms as plain arithmetic over a small list: no clock, no I/O, the same on every layer."""
