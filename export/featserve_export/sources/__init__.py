"""Where a network comes from: the table of backbones, or a file of the user's own, as a live Keras model."""
