"""Use cases over ports (publish, enqueue, cache, repository): arrives with the building blocks."""
