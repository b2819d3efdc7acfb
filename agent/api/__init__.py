"""The local API that the application calls: HTTP to call and nothing else, one file per block."""
