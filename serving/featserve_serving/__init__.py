"""Serve SavedModels with TensorFlow Serving, or with an embedded server that speaks the same API.

The command `featserve-serve` starts either; `create_server` is the embedded server in this process.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RequestError, ServingError, SetupError
from .options import ModelOptions, ServerOptions

if TYPE_CHECKING:
    from .server import Server

__all__ = ["RequestError", "ServingError", "SetupError", "create_server"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        return metadata.version("featserve")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create_server(
    *,
    model_root: str | Path | None = None,
    model_base_path: str | Path | None = None,
    model_name: str = "default",
    model_config_file: str | Path | None = None,
    address: str | None = ServerOptions.address,
    socket_path: str | Path | None = ServerOptions.socket_path,
    rest_address: str | None = ServerOptions.rest_address,
    ssl_config_file: str | Path | None = ServerOptions.ssl_config_file,
    monitoring_config_file: str | Path | None = ServerOptions.monitoring_config_file,
    max_threads: int = ServerOptions.max_threads,
    max_queued_requests: int = ServerOptions.max_queued_requests,
    max_message_bytes: int = ServerOptions.max_message_bytes,
    enable_console: bool = ServerOptions.enable_console,
    console_hosts: Sequence[str] = ServerOptions.console_hosts,
    enable_reload_rpc: bool = ServerOptions.enable_reload_rpc,
    poll_interval_s: float = ModelOptions.poll_interval_s,
    warmup: bool = ModelOptions.warmup,
    allow_labels_for_unavailable: bool = ModelOptions.allow_labels_for_unavailable,
    intra_op_threads: int = ModelOptions.intra_op_threads,
    inter_op_threads: int = ModelOptions.inter_op_threads,
) -> Server:
    """Returns an embedded server that is not started yet.

    The server is a context manager: it opens its ports, loads the models, and lets running calls end before it stops.
    `port`, `rest_port` and `models()` say what it serves where.

    Args:
        model_root: directory of MODEL/VERSION/ directories: serve every model in it.
        model_base_path: directory of VERSION/ directories: serve this one model.
        model_name: name for `model_base_path`.
        model_config_file: ModelServerConfig text proto: serve the models in it.
        address: HOST:PORT for gRPC; port 0 means any free one, None no port.
        socket_path: UNIX socket to listen on for gRPC.
        rest_address: HOST:PORT for REST and metrics; None means no REST.
        ssl_config_file: SSLConfig text proto: serve gRPC and REST with TLS.
        monitoring_config_file: MonitoringConfig text proto: Prometheus on or off, its path.
        max_threads: requests computed at once.
        max_queued_requests: requests that may wait for a thread; more are refused at once.
        max_message_bytes: bytes of the largest request that is taken.
        enable_console: show the console, a page, at / of the REST port.
        console_hosts: names by which browsers may call the console, beside localhost, addresses and this machine's own
            name.
        enable_reload_rpc: let callers change the model set; on loopback they may anyway.
        poll_interval_s: seconds between two looks for new versions; 0 means once. Where they are polled, so are new
            models and the configuration.
        warmup: replay the model's warm-up requests before it takes others.
        allow_labels_for_unavailable: let a label that is not in use name a version that is not loaded.
        intra_op_threads: threads of one operation; 0 means one per core.
        inter_op_threads: operations at once; 0 means one per core.

    Raises:
        SetupError: the models cannot be found, a file is malformed, or the `serving` extra is not installed.

    Example:
        >>> from featserve_serving import create_server
        >>> with create_server(model_root="build/models") as server:
        ...     print(server.models())
        {'adder': [1]}
    """
    try:
        from .models.config.source import model_source
        from .server import Server
    except ModuleNotFoundError as exc:
        raise SetupError(f"the embedded server needs {exc.name}: pip install 'featserve[serving]'") from exc
    source = model_source(
        model_root=model_root,
        model_base_path=model_base_path,
        model_name=model_name,
        model_config_file=model_config_file,
    )
    options = ServerOptions(
        address=address,
        socket_path=Path(socket_path) if socket_path else None,
        rest_address=rest_address,
        ssl_config_file=Path(ssl_config_file) if ssl_config_file else None,
        monitoring_config_file=Path(monitoring_config_file) if monitoring_config_file else None,
        max_threads=max_threads,
        max_queued_requests=max_queued_requests,
        max_message_bytes=max_message_bytes,
        enable_console=enable_console,
        console_hosts=tuple(console_hosts),
        enable_reload_rpc=enable_reload_rpc,
        config_poll_interval_s=poll_interval_s,
        models=ModelOptions(
            poll_interval_s=poll_interval_s,
            warmup=warmup,
            allow_labels_for_unavailable=allow_labels_for_unavailable,
            intra_op_threads=intra_op_threads,
            inter_op_threads=inter_op_threads,
        ),
    )
    return Server(source, options)
