"""What shows Outrigger at work: thin applications, and the demo that runs them."""
