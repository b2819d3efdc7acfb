"""The data path: listener, downstream, exchange, upstream, pool, tunnel. The only place that moves request bytes."""
