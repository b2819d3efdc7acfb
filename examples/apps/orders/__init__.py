"""The orders application."""
