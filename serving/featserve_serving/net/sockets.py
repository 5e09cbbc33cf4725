"""Ports: why one cannot be had, and how many connections it may hold."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from pathlib import Path

from ..errors import SetupError

_BACKLOG = 128
#: Descriptors that are not connections: files of models being loaded, the log, gRPC's own.
_OTHER_DESCRIPTORS = 128
_MAX_CONNECTIONS = 4096
# Reference: unix(7), sun_path with its closing zero.
_MAX_SOCKET_PATH = 107
_REMEDIES = {
    errno.EACCES: "a port below 1024 needs the right to it (CAP_NET_BIND_SERVICE): choose one from 1024 on",
    errno.EADDRNOTAVAIL: "choose an address of this machine, or 0.0.0.0 for all of them",
}


def listen(address: str, protocol: str) -> socket.socket:
    """Returns a socket that listens on `HOST:PORT`; port 0 means any free one.

    Raises:
        SetupError: the port cannot be had; the text says why.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each call on a kept connection stalls 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, int(port)))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError, ValueError) as exc:
        listener.close()
        reason = getattr(exc, "strerror", None) or str(exc)
        remedy = _REMEDIES.get(getattr(exc, "errno", None) or 0, "choose another port, or 0 for any free one")
        raise SetupError(f"cannot listen on {address} for {protocol}: {reason}; {remedy}") from exc
    return listener


def twin(address: str, port: int) -> str | None:
    """Returns the IPv6 address that goes with an IPv4 one: loopback has both, and `localhost` may mean either.

    Args:
        address: `HOST:PORT` that is listened on.
        port: the port that it got.

    Returns:
        `None` if the address is not 127.0.0.1, or if this machine's loopback has no IPv6.
    """
    if address.rpartition(":")[0] != "127.0.0.1":
        return None
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return None
    return f"[::1]:{port}"


def listen_all(address: str, protocol: str) -> list[socket.socket]:
    """Returns sockets that listen on `HOST:PORT` and, on loopback, on the same port of IPv6.

    Raises:
        SetupError: the port cannot be had; the text says why.
    """
    listeners = [listen(address, protocol)]
    if (other := twin(address, listeners[0].getsockname()[1])) is not None:
        try:
            listeners.append(listen(other, protocol))
        except SetupError:
            listeners[0].close()
            raise
    return listeners


def raise_descriptor_limit() -> None:
    """Lets this process have as many descriptors as the system allows it: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def max_connections() -> int:
    """Returns how many connections one of the two ports may hold without starving the other."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    return min(_MAX_CONNECTIONS, max(1, (soft - _OTHER_DESCRIPTORS) // 2))


def is_local(address: str | None) -> bool:
    """Returns whether `HOST:PORT` can be reached from this machine alone; no address is a socket in the file system."""
    if address is None:
        return True
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")


def check_socket(path: Path) -> str:
    """Returns the address of a UNIX socket, where one can be made; what a server left behind is no hindrance.

    Raises:
        SetupError: the path is too long or taken, or its folder is missing.
    """
    cannot = f"cannot listen on the socket {path} for gRPC: "
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise SetupError(f"{cannot}expected a path of at most {_MAX_SOCKET_PATH} bytes; choose a shorter one")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise SetupError(f"{cannot}expected a folder that can be written, received {path.parent}")
    if path.is_socket():
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(os.fspath(path)) == 0:
                raise SetupError(f"{cannot}another server listens on it; choose another path")
    elif path.exists():
        raise SetupError(f"{cannot}there is a file that is no socket; choose another path")
    return f"unix:{path}"
