"""The typed client for applications: imports contracts only. Arrives with the building blocks."""
