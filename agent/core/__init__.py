"""Small values that every layer may use: clock, errors, identity of a caller, settings base, tasks."""
