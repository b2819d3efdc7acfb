"""Thin applications: business only. Everything else is the sidecar's."""
