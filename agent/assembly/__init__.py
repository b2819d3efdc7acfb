"""Settings in, live objects out: routes become plans, upstreams become clusters, issuers become key sets."""
