"""The page on a port."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

import uvicorn

from .app import console_app
from .source import Source


def is_loopback(host: str) -> bool:
    """Returns whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        OSError: the host has no such address, or the port is taken.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    return socket.create_server((host, port), family=family)


def url(host: str, listening: socket.socket) -> str:
    """Returns the address of the page for a browser."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"


def run(source: Source, listening: socket.socket, hosts: Iterable[str] = ()) -> None:
    """Shows the page of a server until the process is told to end."""
    config = uvicorn.Config(
        console_app(source, hosts),
        access_log=False,
        lifespan="off",
        limit_concurrency=128,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
        ws="none",
    )
    uvicorn.Server(config).run(sockets=[listening])
