"""Sockets and TLS, for both protocols."""
