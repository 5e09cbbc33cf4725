"""The gRPC side: the server, what happens to each call, and the services. It decodes, calls `core`, and encodes."""
