"""One file per policy: its Settings, its state, its decision. No await, no clock, no I/O; none sees another."""
