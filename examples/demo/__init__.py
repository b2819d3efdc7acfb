"""The demo: real processes, real requests, and a check of everything that is shown."""
