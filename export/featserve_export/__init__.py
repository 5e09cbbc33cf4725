"""featserve."""
