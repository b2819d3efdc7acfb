"""The data path: listener, downstream, upstream, pool, relay, tunnel. The only place that moves request bytes."""
