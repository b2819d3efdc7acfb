"""One file per technology and port, found by their conformance suites: arrives with the building blocks."""
