"""Sans-io HTTP: request and response heads, framing, header rules, paths, problem bodies. No socket, no policy."""
