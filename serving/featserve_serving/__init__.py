"""Serve SavedModels with TensorFlow Serving, or with an embedded server that speaks the same API.

Example:
    >>> from featserve_serving import create_server
    >>> with create_server(model_root="build/models") as server:
    ...     print(server.models())
    {'vgg16': [1]}
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import RequestError, ServingError, SetupError

if TYPE_CHECKING:
    from .server import Server

__all__ = ["RequestError", "ServingError", "SetupError", "create_server"]


def create_server(
    *,
    model_root: str | Path | None = None,
    model_base_path: str | Path | None = None,
    model_name: str = "default",
    model_config_file: str | Path | None = None,
    address: str = "127.0.0.1:0",
    rest_address: str | None = None,
    ssl_config_file: str | Path | None = None,
    monitoring_config_file: str | Path | None = None,
    max_threads: int = 32,
    max_queued_requests: int = 16,
    max_message_bytes: int = 256 << 20,
    enable_reload_rpc: bool = False,
    poll_interval_s: float = 1.0,
    warmup: bool = True,
    allow_labels_for_unavailable: bool = False,
    intra_op_threads: int = 0,
    inter_op_threads: int = 0,
) -> Server:
    """Return an embedded server that is not started yet.

    Args:
        model_root: a directory of `MODEL/VERSION/` directories; all models are served.
        model_base_path: a directory of `VERSION/` directories, served as `model_name`.
        model_name: the name for `model_base_path`.
        model_config_file: a `ModelServerConfig` text proto.
        address: `HOST:PORT` for gRPC; port 0 means any free one.
        rest_address: `HOST:PORT` for REST and metrics; `None` means no REST.
        ssl_config_file: an `SSLConfig` text proto: serve with TLS, gRPC and REST alike.
        monitoring_config_file: a `MonitoringConfig` text proto: metrics on or off, and their path.
        max_threads: requests that are computed at once.
        max_queued_requests: requests that may wait for a thread; more are refused at once.
        max_message_bytes: larger requests are refused.
        enable_reload_rpc: let callers change the model set, also where the address is not loopback.
        poll_interval_s: seconds between two looks for new versions, models and configuration; 0 means never.
        warmup: replay the models' warm-up requests before they take others.
        allow_labels_for_unavailable: let a label that is not in use name a version that is not loaded.
        intra_op_threads: threads of one operation; 0 means one per core.
        inter_op_threads: operations that run at once; 0 means one per core.

    Raises:
        SetupError: the models cannot be found, or the `serving` extra is not installed.
    """
    try:
        from . import server
        from .models.manager import ManagerOptions
        from .models.servable import SessionOptions
    except ModuleNotFoundError as exc:
        raise SetupError(f"the embedded server needs {exc.name}: pip install 'featserve[serving]'") from exc
    session = SessionOptions(intra_op_threads=intra_op_threads, inter_op_threads=inter_op_threads)
    return server.create_server(
        model_root=model_root,
        model_base_path=model_base_path,
        model_name=model_name,
        model_config_file=model_config_file,
        options=server.ServerOptions(
            address=address,
            rest_address=rest_address,
            ssl_config_file=Path(ssl_config_file) if ssl_config_file else None,
            monitoring_config_file=Path(monitoring_config_file) if monitoring_config_file else None,
            max_threads=max_threads,
            max_queued_requests=max_queued_requests,
            max_message_bytes=max_message_bytes,
            enable_reload_rpc=enable_reload_rpc,
            config_poll_interval_s=poll_interval_s,
            manager=ManagerOptions(
                session=session,
                poll_interval_s=poll_interval_s,
                warmup=warmup,
                allow_labels_for_unavailable=allow_labels_for_unavailable,
            ),
        ),
    )
