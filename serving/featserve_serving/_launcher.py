"""From flags to a running server."""

from __future__ import annotations

import sys
from pathlib import Path

from ._errors import SetupError
from ._flags import Settings


def serve(settings: Settings) -> int:
    """Serve until asked to stop; return the exit status.

    Raises:
        SetupError: it cannot start as asked.
    """
    return _serve_embedded(settings)


def _serve_embedded(settings: Settings) -> int:
    try:
        from . import _server
        from ._manager import ManagerOptions
        from ._servable import SessionOptions
    except ModuleNotFoundError as exc:
        raise SetupError(f"the embedded server needs {exc.name}: pip install 'featserve[serving]'") from exc
    session = SessionOptions(
        tags=tuple(settings.text("saved_model_tags").split(",")),
        intra_op_threads=settings.whole("tensorflow_intra_op_parallelism")
        or settings.whole("tensorflow_session_parallelism"),
        inter_op_threads=settings.whole("tensorflow_inter_op_parallelism")
        or settings.whole("tensorflow_session_parallelism"),
    )
    options = _server.ServerOptions(
        address=f"{settings.text('host')}:{settings.whole('port')}",
        max_threads=settings.whole("grpc_max_threads") or _server.ServerOptions.max_threads,
        max_message_bytes=settings.whole("max_message_mb") << 20,
        enable_reload_rpc=settings.on("enable_reload_rpc"),
        tensor_content_responses=settings.on("enable_serialization_as_tensor_content"),
        manager=ManagerOptions(
            session=session,
            poll_interval_s=settings.whole("file_system_poll_wait_seconds"),
            max_load_retries=settings.whole("max_num_load_retries"),
            load_retry_interval_s=settings.whole("load_retry_interval_micros") / 1e6,
            warmup=settings.on("enable_model_warmup"),
            warmup_iterations=max(1, settings.whole("num_request_iterations_for_warmup")),
            allow_labels_for_unavailable=settings.on("allow_version_labels_for_unavailable_models"),
        ),
    )
    server = _server.create_server(
        model_root=_path(settings, "model_root"),
        model_base_path=_path(settings, "model_base_path"),
        model_name=settings.text("model_name"),
        model_config_file=_path(settings, "model_config_file"),
        options=options,
    )
    server.start()
    try:
        for name, versions in server.models().items():
            print(f"serving {name} (version {', '.join(map(str, versions))}) at {settings.text('host')}:{server.port}")
        sys.stdout.flush()
        server.wait()
    finally:
        server.stop(settings.number("stop_grace_seconds"))
    return 0


def _path(settings: Settings, flag: str) -> Path | None:
    return Path(settings.text(flag)) if settings.text(flag) else None
