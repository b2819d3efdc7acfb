"""The operators' endpoints: probes, metrics, configuration, explanations, log level, drain."""
