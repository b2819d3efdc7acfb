"""The inventory application."""
