"""Addresses of servers: what a target may be, and what gRPC is given for it."""

from __future__ import annotations

import re
import socket

from ..exceptions import ConfigError, ConnectError

_HOST_PORT = re.compile(r"[^:/,]+:\d+|\[[^]]+\]:\d+")


def check_target(target: str) -> str:
    """Return the target if gRPC can connect to it.

    Raises:
        ConfigError: There is no address, or an address lacks its port.
    """
    addresses = split(target)
    if not addresses:
        raise ConfigError("the server's address is empty; expected HOST:PORT")
    if target.lower().startswith(("http://", "https://")):
        raise ConfigError(f"the server's address {target!r} is for gRPC: HOST:PORT alone, with tls= or --ca for TLS")
    if "://" in target or target.split(":")[0] in ("dns", "unix", "unix-abstract", "ipv4", "ipv6", "xds", "vsock"):
        return target
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"the server's address {address!r} is not HOST:PORT")
    return target


def split(target: str) -> list[str]:
    """Return the addresses of a comma-separated target."""
    return [address.strip() for address in target.split(",") if address.strip()]


def resolve(target: str) -> str:
    """Return the target as gRPC takes it; several host names become a list of their addresses.

    Raises:
        ConnectError: None of several host names is known.
    """
    addresses = split(target)
    if len(addresses) == 1 or target.startswith(("ipv4:", "ipv6:")):
        return target
    found: dict[socket.AddressFamily, list[str]] = {}
    failures = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            answers = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        except OSError as exc:
            failures.append(f"{host}: {exc}")
            continue
        for family, _, _, _, place in answers:
            text = f"[{place[0]!s}]:{port}" if family == socket.AF_INET6 else f"{place[0]!s}:{port}"
            if text not in found.setdefault(family, []):
                found[family].append(text)
    for family, scheme in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")):
        if found.get(family):
            return f"{scheme}:{','.join(found[family])}"
    raise ConnectError(f"no server at {target}: {'; '.join(failures)}", target=target)


def several(target: str) -> bool:
    """Whether a target may stand for more than one server."""
    return len(split(target)) > 1 or not _HOST_PORT.fullmatch(target)
