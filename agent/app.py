"""The composition root: one configuration in, live objects and one exit stack out."""
