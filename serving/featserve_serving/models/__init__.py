"""The models: their directories and versions, loading, warm-up, and the session that runs each version."""
