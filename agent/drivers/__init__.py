"""One file per technology: open, close, ping, back off. What touches a socket outside the data path."""
