"""TensorFlow Serving's messages and text files to and from Python's own values. Nothing here knows a server."""
