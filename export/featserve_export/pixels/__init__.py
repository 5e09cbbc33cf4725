"""From encoded or plain images of any size to the levels that Pillow gives, as TensorFlow operations."""
