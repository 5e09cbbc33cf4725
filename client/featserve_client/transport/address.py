"""Addresses of servers: what a target may be, and what gRPC is given for it."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Sequence

from ..exceptions import ConfigError, ConnectError

_HOST_PORT = re.compile(r"[^:/,]+:\d+|\[[^]]+\]:\d+")


def check_target(target: str) -> str:
    """Returns the target if gRPC can connect to it.

    Raises:
        ConfigError: there is no address, or an address lacks its port.
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
    """Returns the addresses of a comma-separated target."""
    return [address.strip() for address in target.split(",") if address.strip()]


def resolve(target: str) -> str:
    """Returns the target as gRPC takes it; several host names become a list of their addresses.

    Raises:
        ConnectError: no host name of several is known.
    """
    addresses = split(target)
    if len(addresses) == 1 or target.startswith(("ipv4:", "ipv6:")):
        return target
    found, failures = _look_up(addresses)
    for family, scheme in ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6")):
        if found.get(family):
            return f"{scheme}:{','.join(found[family])}"
    raise ConnectError(f"no server at {target}: {'; '.join(failures)}", target=target)


def servers_of(target: str) -> list[str]:
    """Returns the address of each server that one HOST:PORT stands for, as `10.0.0.7:8500`.

    This machine's own names, sockets, and targets whose meaning gRPC alone knows are one server each. Of a name with
    addresses of both families those of IPv4 count: they are the same servers.

    Raises:
        ConnectError: the host name is not known.
    """
    address = target.removeprefix("dns:///")
    if is_loopback(address) or not is_host_port(address):
        return [target]
    found, failures = _look_up([address])
    servers = found.get(socket.AF_INET) or found.get(socket.AF_INET6)
    if not servers:
        raise ConnectError(f"no server at {target}: {'; '.join(failures)}", target=target)
    return sorted(servers)


def _look_up(addresses: Sequence[str]) -> tuple[dict[socket.AddressFamily, list[str]], list[str]]:
    """Returns addresses by family as `IP:PORT`, and why host names are not known."""
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
    return found, failures


def is_loopback(target: str) -> bool:
    """Whether a target is this machine alone: `localhost`, a loopback address, or a socket in the file system."""
    return all(_is_loopback(address) for address in split(target))


def _is_loopback(address: str) -> bool:
    scheme, _, rest = address.partition(":")
    if scheme in ("unix", "unix-abstract"):
        return True
    place = rest.lstrip("/") if scheme in ("dns", "ipv4", "ipv6") else address
    host = place.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def proxy_variable(target: str) -> str | None:
    """Returns the environment's variable whose proxy gRPC connects through; None if it connects directly.

    Reference:
        gRPC core's environment variables, doc/environment_variables.md.
    """
    if is_loopback(target):
        return None
    exempt = os.environ.get("no_grpc_proxy") or os.environ.get("no_proxy") or ""
    hosts = [address.rpartition(":")[0].rpartition("/")[2] for address in split(target)]
    names = [name.strip() for name in exempt.split(",") if name.strip()]
    if all(any(host.endswith(name) for name in names) for host in hosts):
        return None
    return next((name for name in ("grpc_proxy", "https_proxy", "http_proxy") if os.environ.get(name)), None)


def is_host_port(target: str) -> bool:
    """Whether a target is one host and its port."""
    return _HOST_PORT.fullmatch(target) is not None


def several(target: str) -> bool:
    """Whether a target may stand for more than one server."""
    return len(split(target)) > 1 or not is_host_port(target)
