"""The root model, loading (YAML, environment, secrets), errors that name key, line and remedy, JSON schema."""
