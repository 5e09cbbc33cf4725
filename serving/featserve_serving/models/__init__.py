"""The models: their directories and configuration, loading, warm-up, and the session that runs each version."""
