"""Asks an address by hand who answers, because gRPC says of most mistakes only that there is no connection."""

from __future__ import annotations

import socket
import ssl
from typing import Literal

#: gRPC in plain text or under TLS, a web server's HTTP/1, something else, or nothing at all.
Responder = Literal["grpc", "tls", "http", "other", "nothing"]

# RFC 9113, 3.4 and 6.5: a client's first words, and the empty SETTINGS frame after them.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
_SETTINGS = 4


def probe(host: str, port: int, timeout_s: float) -> tuple[Responder, str]:
    """Returns who answers at an address, and the reason where nobody does.

    Args:
        host: a name or an address.
        port: its TCP port.
        timeout_s: seconds for each of the connections that are tried, three at most.
    """
    try:
        answer = _exchange(host, port, _PREFACE, timeout_s)
        if len(answer) == 9 and answer[3] == _SETTINGS:
            return "grpc", ""
        if _speaks_tls(host, port, timeout_s):
            return "tls", ""
        web = _exchange(host, port, b"GET / HTTP/1.0\r\n\r\n", timeout_s).startswith(b"HTTP/")
        return ("http" if web else "other"), ""
    except OSError as exc:
        return "nothing", str(exc)


def _exchange(host: str, port: int, words: bytes, timeout_s: float) -> bytes:
    with socket.create_connection((host, port), timeout_s) as connection:
        try:
            connection.sendall(words)
            return connection.recv(9)
        except OSError:  # whoever it is, it does not like these words
            return b""


def _speaks_tls(host: str, port: int, timeout_s: float) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: whoever it is, it is TLS
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, port), timeout_s) as connection:
        try:
            context.wrap_socket(connection).close()
        except OSError:
            return False
    return True
