"""Bytes of TensorFlow Serving's messages: the client's own proto of them, and numpy arrays to and from it."""
