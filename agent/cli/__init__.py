"""Arguments to calls: one file per command."""
