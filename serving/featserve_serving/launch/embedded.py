"""The embedded server, run from the command line."""

from __future__ import annotations

import gc
import sys
import threading

from ..allocator import hold_few_arenas
from ..errors import SetupError
from ..net.sockets import raise_descriptor_limit
from ..options import ModelOptions, ServerOptions
from .flags import Flags, For, flag_names


def serve(flags: Flags) -> int:
    """Serves until SIGTERM or SIGINT; returns the exit status.

    Raises:
        SetupError: the server cannot start as asked.
    """
    hold_few_arenas()
    _warn_of_ignored(flags)
    from ..models.config.source import model_source
    from ..server import Server
    from ..telemetry import logs

    logs.configure(flags.log_format)
    raise_descriptor_limit()
    source = model_source(
        model_root=flags.model_root,
        model_base_path=flags.model_base_path,
        model_name=flags.model_name,
        model_config_file=flags.model_config_file,
    )
    loaded = threading.Event()

    def announce(name: str, version: int, seconds: float) -> None:
        if not loaded.is_set():  # what comes later is for the log
            where = f"unix:{flags.grpc_socket_path}" if _socket_alone(flags) else _address(flags.host, server.port)
            print(f"serving {name} (version {version}, loaded in {seconds:.1f} s) at {where}", flush=True)

    # The modules stay: a look through all their objects, again and again while JSON is read, takes most of its time.
    gc.freeze()
    server = Server(source, options(flags), announce)
    asked = server.catch_signals()
    server.start()
    loaded.set()
    try:
        if server.rest_port is not None:
            print(f"REST at {_address(flags.host, server.rest_port)}")
            if flags.enable_console:
                print(f"console at {_console(flags, server.rest_port)}")
        print("ready", flush=True)
        asked.wait()
    finally:
        server.stop()
    return 0


def options(flags: Flags) -> ServerOptions:
    """Returns the server's options: the one place where a flag becomes a setting.

    Raises:
        SetupError: `--grpc_channel_arguments` is malformed.
    """
    arguments = _grpc_arguments(flags.grpc_channel_arguments)
    max_message_bytes = arguments.pop("grpc.max_receive_message_length", flags.max_message_mb << 20)
    polled_s = flags.file_system_poll_wait_seconds
    if flags.model_config_file is not None:
        polled_s = flags.model_config_file_poll_wait_seconds
    both = flags.tensorflow_session_parallelism
    return ServerOptions(
        address=None if _socket_alone(flags) else _address(flags.host, flags.port),
        socket_path=flags.grpc_socket_path,
        rest_address=_address(flags.host, flags.rest_api_port) if flags.rest_api_port >= 0 else None,
        ssl_config_file=flags.ssl_config_file,
        monitoring_config_file=flags.monitoring_config_file,
        max_threads=flags.grpc_max_threads or ServerOptions.max_threads,
        max_queued_requests=flags.max_queued_requests,
        max_message_bytes=int(max_message_bytes),
        grpc_arguments=tuple(arguments.items()),
        rest_timeout_s=flags.rest_api_timeout_in_ms / 1e3,
        rest_cors=flags.rest_api_enable_cors_support,
        enable_console=flags.enable_console,
        console_hosts=tuple(filter(None, flags.console_hosts.split(","))),
        enable_reload_rpc=flags.enable_reload_rpc,
        tensor_content_responses=flags.enable_serialization_as_tensor_content,
        config_poll_interval_s=polled_s,
        stop_grace_s=flags.stop_grace_seconds,
        models=ModelOptions(
            poll_interval_s=flags.file_system_poll_wait_seconds,
            max_load_retries=flags.max_num_load_retries,
            load_retry_interval_s=flags.load_retry_interval_micros / 1e6,
            warmup=flags.enable_model_warmup,
            warmup_iterations=max(1, flags.num_request_iterations_for_warmup),
            allow_labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
            tags=tuple(flags.saved_model_tags.split(",")),
            intra_op_threads=flags.tensorflow_intra_op_parallelism or both,
            inter_op_threads=flags.tensorflow_inter_op_parallelism or both,
        ),
    )


def _socket_alone(flags: Flags) -> bool:
    return flags.grpc_socket_path is not None and flags.port == 0


def _warn_of_ignored(flags: Flags) -> None:
    if ignored := sorted(flag_names(For.NATIVE) & flags.given):
        text = ", ".join(f"--{name}" for name in ignored)
        print(f"featserve-serve: ignored, the embedded server has no use for it: {text}", file=sys.stderr)


def _grpc_arguments(text: str) -> dict[str, str | int]:
    arguments: dict[str, str | int] = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise SetupError(f"--grpc_channel_arguments expects KEY=VALUE,...; received {item!r}")
        arguments[key] = int(value) if value.lstrip("-").isdigit() else value
    return arguments


def _console(flags: Flags, port: int) -> str:
    """Returns where a browser on this machine finds the console."""
    host = "localhost" if flags.host in ("0.0.0.0", "::") else flags.host
    return f"{'https' if flags.ssl_config_file else 'http'}://{_address(host, port)}/"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
