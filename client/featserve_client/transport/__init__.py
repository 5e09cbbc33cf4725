"""gRPC: addresses, credentials and options of a channel, and its errors made the client's own.

The only code, beside the two clients and the interceptors, that knows gRPC; it knows no model and no image.
"""
