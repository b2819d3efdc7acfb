"""Side-by-side measurements against other proxies, in one run."""
