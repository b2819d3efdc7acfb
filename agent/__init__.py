"""Outrigger: a sidecar for API platforms, one small process beside each application."""

__version__ = "0.1.0"
