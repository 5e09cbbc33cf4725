"""The server's operations, and the admission of requests to them, in terms that belong to no protocol."""
