"""One file per policy: its Settings, its state and its decision. No await, no clock, no I/O, and no policy sees another."""
