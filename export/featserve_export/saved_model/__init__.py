"""A version's directory and its files: the SavedModel with its signatures, and the warm-up records."""
