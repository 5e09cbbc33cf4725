"""The embedded server, run from the command line."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from . import _logging, _ports
from ._errors import SetupError
from ._flags import FLAGS, For, Settings


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status.

    Raises:
        SetupError: it cannot start as asked.
    """
    _warn_of_ignored(settings)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        from . import _server
        from ._manager import ManagerOptions
        from ._servable import SessionOptions
    except ModuleNotFoundError as exc:
        raise SetupError(f"the embedded server needs {exc.name}: pip install 'featserve[serving]'") from exc
    if settings.text("log_format") not in _logging.FORMATS:
        raise SetupError(f"--log_format expects {' or '.join(_logging.FORMATS)}")
    _logging.configure(settings.text("log_format"))
    _ports.raise_descriptor_limit()
    both = settings.whole("tensorflow_session_parallelism")
    session = SessionOptions(
        tags=tuple(settings.text("saved_model_tags").split(",")),
        intra_op_threads=settings.whole("tensorflow_intra_op_parallelism") or both,
        inter_op_threads=settings.whole("tensorflow_inter_op_parallelism") or both,
    )
    arguments = _grpc_arguments(settings.text("grpc_channel_arguments"))
    limit = arguments.pop("grpc.max_receive_message_length", settings.whole("max_message_mb") << 20)
    host = settings.text("host")
    polled = "model_config_file_poll_wait_seconds" if settings.text("model_config_file") else None
    options = _server.ServerOptions(
        address=_address(host, settings.port("port")),
        rest_address=_address(host, settings.port("rest_api_port")) if settings.whole("rest_api_port") >= 0 else None,
        ssl_config_file=settings.path("ssl_config_file"),
        monitoring_config_file=settings.path("monitoring_config_file"),
        max_threads=settings.whole("grpc_max_threads") or _server.ServerOptions.max_threads,
        max_queued_requests=settings.whole("max_queued_requests"),
        max_message_bytes=int(limit),
        grpc_arguments=tuple(arguments.items()),
        rest_timeout_s=settings.whole("rest_api_timeout_in_ms") / 1e3,
        rest_cors=settings.on("rest_api_enable_cors_support"),
        enable_reload_rpc=settings.on("enable_reload_rpc"),
        tensor_content_responses=settings.on("enable_serialization_as_tensor_content"),
        config_poll_interval_s=settings.whole(polled or "file_system_poll_wait_seconds"),
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
        model_root=settings.path("model_root"),
        model_base_path=settings.path("model_base_path"),
        model_name=settings.text("model_name"),
        model_config_file=settings.path("model_config_file"),
        options=options,
    )
    asked = server.catch_signals()
    server.start()
    try:
        for name, versions in server.models().items():
            print(f"serving {name} (version {', '.join(map(str, versions))}) at {_address(host, server.port)}")
        if server.rest_port is not None:
            print(f"REST at {_address(host, server.rest_port)}")
        sys.stdout.flush()
        asked.wait()
    finally:
        server.stop(settings.number("stop_grace_seconds"))
    return 0


def _warn_of_ignored(settings: Settings) -> None:
    ignored = [flag.name for flag in FLAGS if flag.meant_for is For.NATIVE and flag.name in settings.given]
    if ignored:
        names = ", ".join(f"--{name}" for name in ignored)
        print(f"featserve-serve: ignored, the embedded server has no use for it: {names}", file=sys.stderr)


def _grpc_arguments(text: str) -> dict[str, str | int]:
    arguments: dict[str, str | int] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise SetupError(f"--grpc_channel_arguments expects KEY=VALUE,...; received {item!r}")
        arguments[key] = int(value) if value.lstrip("-").isdigit() else value
    return arguments


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_models(settings: Settings) -> Path:
    """Return the one path that says what to serve.

    Raises:
        SetupError: none is given, or more than one.
    """
    names = ("model_root", "model_base_path", "model_config_file")
    given = [path for path in map(settings.path, names) if path is not None]
    if len(given) != 1:
        flags = ", ".join(f"--{name}" for name in names)
        raise SetupError(f"give exactly one of {flags}; received {len(given)}")
    return given[0]
