"""The REST side: paths, JSON in and out, and the HTTP server. It decodes, calls `core`, and encodes."""
