"""Every setting of the embedded server with its default and its meaning, for the flags, the API and the help.

Limits that nobody sets stand beside the code that keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"text": text})


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """How models are found, loaded and run; `describe` has the meaning of each."""

    poll_interval_s: float = _option(1.0, "seconds between two looks for new versions; 0 means once")
    max_load_retries: int = _option(0, "further tries after a version failed to load")
    load_retry_interval_s: float = _option(60.0, "seconds between two such tries")
    warmup: bool = _option(True, "replay the model's warm-up requests before it takes others")
    warmup_iterations: int = _option(1, "times that each warm-up request is replayed")
    allow_labels_for_unavailable: bool = _option(
        False, "let a label that is not in use name a version that is not loaded"
    )
    tags: tuple[str, ...] = _option(("serve",), "tags of the graph to load")
    intra_op_threads: int = _option(0, "threads of one operation; 0 means one per core")
    inter_op_threads: int = _option(0, "operations at once; 0 means one per core")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How requests are taken; `describe` has the meaning of each."""

    address: str | None = _option("127.0.0.1:0", "HOST:PORT for gRPC; port 0 means any free one, None no port")
    socket_path: Path | None = _option(None, "UNIX socket to listen on for gRPC")
    rest_address: str | None = _option(None, "HOST:PORT for REST and metrics; None means no REST")
    ssl_config_file: Path | None = _option(None, "SSLConfig text proto: serve gRPC and REST with TLS")
    monitoring_config_file: Path | None = _option(None, "MonitoringConfig text proto: Prometheus on or off, its path")
    max_threads: int = _option(32, "requests computed at once")
    max_queued_requests: int = _option(16, "requests that may wait for a thread; more are refused at once")
    max_message_bytes: int = _option(256 << 20, "bytes of the largest request that is taken")
    grpc_arguments: tuple[tuple[str, str | int], ...] = _option((), "further arguments of the gRPC server")
    rest_timeout_s: float = _option(30.0, "seconds that a REST request may take")
    rest_cors: bool = _option(False, "send CORS headers")
    enable_console: bool = _option(True, "show the console, a page, at / of the REST port")
    console_hosts: tuple[str, ...] = _option(
        (), "names by which browsers may call the console, beside localhost, addresses and this machine's own name"
    )
    enable_reload_rpc: bool = _option(False, "let callers change the model set; on loopback they may anyway")
    tensor_content_responses: bool = _option(False, "answer Predict in tensor_content")
    config_poll_interval_s: float = _option(0.0, "seconds between two readings of the configuration; 0 means once")
    stop_grace_s: float = _option(10.0, "seconds that running requests may take once the server is to stop")
    models: ModelOptions = ModelOptions()


def describe(name: str) -> str:
    """Returns the meaning of an option.

    Raises:
        KeyError: there is no option of this name.
    """
    options = (*fields(ModelOptions), *fields(ServerOptions))
    return {each.name: str(each.metadata["text"]) for each in options if each.metadata}[name]
