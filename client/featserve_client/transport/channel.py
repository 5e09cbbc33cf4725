"""gRPC channels: addresses, credentials, service config."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc

from ..config import TLS, Compression, Keepalive, Limits, RetryPolicy
from ..exceptions import ConfigError, ConnectError

COMPRESSION = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


_HEADER = re.compile(r"[a-z0-9_.-]+")
_HOST_PORT = re.compile(r"[^:/,]+:\d+|\[[^]]+\]:\d+")


def check_target(target: str) -> str:
    """Return the target if it can be one.

    Raises:
        ConfigError: An address lacks its port, or there is none.
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
        ConnectError: None of several names is known.
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


def options(
    *,
    limits: Limits,
    retry: RetryPolicy,
    keepalive: Keepalive,
    tls: TLS | None,
    target: str,
    user_agent: str,
) -> list[tuple[str, Any]]:
    """Return the channel's arguments."""
    arguments: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        ("grpc.keepalive_time_ms", round(keepalive.interval_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(keepalive.timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 0),
        # gRPC's own pauses between two connections grow to two minutes: longer than anybody waits for a restart.
        ("grpc.initial_reconnect_backoff_ms", round(retry.initial_backoff_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", round(retry.max_backoff_s * 1000)),
        ("grpc.primary_user_agent", user_agent),
        ("grpc.service_config", json.dumps(service_config(retry, balance=several(target)))),
        # A forked child must not share the parent's connections, which gRPC pools by these arguments.
        ("featserve.pid", os.getpid()),
    ]
    if tls and tls.server_name:
        arguments.append(("grpc.ssl_target_name_override", tls.server_name))
    elif tls and len(split(target)) > 1:
        arguments.append(("grpc.ssl_target_name_override", split(target)[0].rpartition(":")[0]))
    return arguments


def several(target: str) -> bool:
    """Whether a target may stand for more than one server."""
    return len(split(target)) > 1 or not _HOST_PORT.fullmatch(target)


def service_config(retry: RetryPolicy, *, balance: bool) -> dict[str, Any]:
    """Return gRPC's service config: retries with a budget; among several servers, the healthy ones in turn."""
    method: dict[str, Any] = {"name": [{}]}
    config: dict[str, Any] = {"methodConfig": [method]}
    if balance:
        config["loadBalancingConfig"] = [{"round_robin": {}}]
        config["healthCheckConfig"] = {"serviceName": ""}
    if retry.max_attempts > 1:
        method["retryPolicy"] = {
            "maxAttempts": retry.max_attempts,
            "initialBackoff": f"{retry.initial_backoff_s}s",
            "maxBackoff": f"{retry.max_backoff_s}s",
            "backoffMultiplier": retry.backoff_multiplier,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["retryThrottling"] = {"maxTokens": retry.budget_tokens, "tokenRatio": retry.budget_refill}
    return config


def check_token(token: str) -> str:
    """Return the token if it can travel in a header; what is wrong with it is said without showing it.

    Raises:
        ConfigError: It is empty, or has characters that no header may have.
    """
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError("the bearer token must be printable ASCII without spaces or line breaks, and not empty")
    return token


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return what travels with each call, if headers can carry it.

    Raises:
        ConfigError: They cannot.
    """
    for key, value in metadata.items():
        if not isinstance(key, str) or not _HEADER.fullmatch(key) or key.endswith("-bin"):
            raise ConfigError(f"metadata {key!r}: expected a name of lower-case letters, digits, '-', '_' and '.'")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigError(f"metadata {key!r}: expected printable ASCII")
    return dict(metadata)


def credentials(tls: TLS, token: str | Callable[[], str] | None) -> grpc.ChannelCredentials:
    """Return channel credentials, with a bearer token in every call where there is one.

    Raises:
        ConfigError: A file cannot be read, or is not what gRPC needs.
    """
    ca, key, certificate = tls.read("ca"), tls.read("private_key"), tls.read("certificate")
    _check_pem(tls)
    channel = grpc.ssl_channel_credentials(ca, key, certificate)
    if token is None:
        return channel
    if isinstance(token, str):
        return grpc.composite_channel_credentials(channel, grpc.access_token_call_credentials(token))

    def plugin(_: object, callback: Callable[[Sequence[tuple[str, str]], Exception | None], None]) -> None:
        try:
            callback([("authorization", f"Bearer {check_token(token())}")], None)
        except Exception as exc:  # the caller's function: its failure is the call's
            callback([], exc)

    return grpc.composite_channel_credentials(channel, grpc.metadata_call_credentials(plugin, "bearer"))


def _check_pem(tls: TLS) -> None:
    # gRPC takes any bytes here and then fails every call with "Failed to create security handshaker".
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca is not None:
        try:
            context.load_verify_locations(tls.ca)
        except (ssl.SSLError, OSError) as exc:
            raise ConfigError(f"TLS ca: {os.fspath(tls.ca)} holds no PEM certificate") from exc
    if tls.certificate is not None and tls.private_key is not None:
        try:
            context.load_cert_chain(tls.certificate, tls.private_key, password="")  # noqa: S106
        except (ssl.SSLError, OSError) as exc:
            raise ConfigError(
                f"TLS certificate {os.fspath(tls.certificate)} and private_key {os.fspath(tls.private_key)} are not a "
                "certificate in PEM and its own key without a password"
            ) from exc


def compression(name: Compression) -> grpc.Compression:
    """Return gRPC's constant for a name."""
    try:
        return COMPRESSION[name]
    except KeyError:
        raise ConfigError(f"compression must be one of {', '.join(COMPRESSION)}, not {name!r}") from None
