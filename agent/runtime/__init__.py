"""The life of the process: signals, phases, drain, workers, reload."""
