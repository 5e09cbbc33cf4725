"""What lies in a version's directory: the SavedModel with its signatures, warm-up records, and the directory itself."""
