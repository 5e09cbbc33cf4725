"""Which models are to be served: the `ModelServerConfig`, where it comes from, its check, and the watch for changes."""
