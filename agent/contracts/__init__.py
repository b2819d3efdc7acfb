"""Models of the local API, shared with the SDK."""
