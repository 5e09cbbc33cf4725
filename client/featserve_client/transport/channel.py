"""A channel's options: sizes, pings, retries, and which of several servers is called."""

from __future__ import annotations

import json
import os
from typing import Any

import grpc

from ..config import ClientSettings, Compression, RetryPolicy
from .address import is_loopback, several, split

COMPRESSION: dict[Compression, grpc.Compression] = {
    "none": grpc.Compression.NoCompression,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


def channel_options(settings: ClientSettings) -> list[tuple[str, Any]]:
    """Returns gRPC's options of the channel."""
    limits, retry = settings.limits, settings.retry
    interval_s, ping_s = settings.keepalive.within(settings.timeout_s)
    tls, addresses = settings.tls, split(settings.target)
    arguments: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", limits.max_message_bytes),
        ("grpc.keepalive_time_ms", round(interval_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(ping_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 0),
        # gRPC's own pauses between two connections grow to two minutes: longer than anybody waits for a restart.
        ("grpc.initial_reconnect_backoff_ms", round(retry.initial_backoff_s * 1000)),
        ("grpc.max_reconnect_backoff_ms", round(retry.max_backoff_s * 1000)),
        ("grpc.primary_user_agent", "featserve-client"),
        ("grpc.service_config", json.dumps(service_config(retry, balance=several(settings.target)))),
        # A forked child must not share the parent's connections, which gRPC pools by these arguments.
        ("featserve.pid", os.getpid()),
    ]
    if is_loopback(settings.target):  # no proxy reaches this machine's own addresses
        arguments.append(("grpc.enable_http_proxy", 0))
    if tls and tls.server_name:
        arguments.append(("grpc.ssl_target_name_override", tls.server_name))
    elif tls and len(addresses) > 1:
        arguments.append(("grpc.ssl_target_name_override", addresses[0].rpartition(":")[0]))
    return arguments


def service_config(retry: RetryPolicy, *, balance: bool) -> dict[str, Any]:
    """Returns gRPC's service config: retries with a budget; among several servers, the healthy ones in turn."""
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
