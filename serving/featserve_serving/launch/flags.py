"""The flags of `featserve-serve`, with TensorFlow Serving's own names, as one typed object.

Reference: tensorflow_serving/model_servers/main.cc.
"""

from __future__ import annotations

import argparse
import difflib
import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import SetupError
from ..options import ModelOptions, ServerOptions, describe


class For(enum.Enum):
    """Which servers a flag means something to, with the title of its group in the help."""

    LAUNCHER = "what to run"
    ALL = "every runtime (TensorFlow Serving's names)"
    EMBEDDED = "embedded server"
    NATIVE = "docker and native (passed through)"


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"expects true or false; received {text!r}")
    return text.lower() in ("true", "1")


def _whole(text: str) -> int:
    return int(_number(text, int, "a whole number"))


def _number(text: str, kind: type[int] | type[float] = float, expected: str = "a number") -> float:
    try:
        return kind(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"expects {expected}; received {text!r}") from exc


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _directory(text: str) -> Path | None:
    if not text:
        return None
    from ..models.paths import local_path

    try:
        return local_path(text)
    except SetupError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _port(text: str) -> int:
    port = _whole(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"expects a port from 0 to 65535; received {port}")
    return port


def _port_or_none(text: str) -> int:
    return -1 if text == "-1" else _port(text)


#: How a flag is read, and what the help calls its value, by the type of its default.
_KINDS: dict[type, tuple[Callable[[str], Any], str]] = {
    bool: (_truth, "BOOL"),
    int: (_whole, "N"),
    float: (_number, "X"),
    str: (str, "TEXT"),
    type(None): (_path, "PATH"),
}


def _flag(
    default: Any,
    text: str,
    group: For = For.ALL,
    *,
    choices: tuple[str, ...] | None = None,
    kind: Callable[[str], Any] | None = None,
) -> Any:
    return field(default=default, metadata={"help": text, "group": group, "choices": choices, "kind": kind})


def _option(name: str, group: For = For.ALL) -> Any:
    """Returns a flag that is an option of the embedded server, in the same unit."""
    return _flag(getattr(ModelOptions if hasattr(ModelOptions, name) else ServerOptions, name), describe(name), group)


def _native(default: Any, text: str) -> Any:
    return _flag(default, text, For.NATIVE)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """The value of each flag.

    Attributes:
        given: names of the flags that the command line had.
    """

    given: frozenset[str] = frozenset()
    runtime: str = _flag(
        "auto",
        "server to run; auto takes a reachable Docker engine, else tensorflow_model_server on PATH, else embedded",
        For.LAUNCHER,
        choices=("auto", "docker", "native", "embedded"),
    )
    model_root: Path | None = _flag(
        None, "directory of MODEL/VERSION/ directories: serve every model in it", For.LAUNCHER, kind=_directory
    )
    serving_tag: str = _flag(
        "2.20.0", "tag of tensorflow/serving for --runtime docker, such as 2.20.0-gpu", For.LAUNCHER
    )
    port: int = _flag(8500, "gRPC port; 0 means any free one (embedded)", kind=_port)
    rest_api_port: int = _flag(8501, "REST port; 0 means any free one (embedded), -1 means no REST", kind=_port_or_none)
    model_name: str = _flag("default", "name for --model_base_path")
    model_base_path: Path | None = _flag(
        None, "directory of VERSION/ directories: serve this one model", kind=_directory
    )
    model_config_file: Path | None = _flag(None, "ModelServerConfig text proto: serve the models in it")
    model_config_file_poll_wait_seconds: int = _flag(
        0, "seconds between two readings of --model_config_file; 0 means once"
    )
    file_system_poll_wait_seconds: int = _flag(int(ModelOptions.poll_interval_s), describe("poll_interval_s"))
    allow_version_labels_for_unavailable_models: bool = _option("allow_labels_for_unavailable")
    monitoring_config_file: Path | None = _option("monitoring_config_file")
    ssl_config_file: Path | None = _flag(None, "SSLConfig text proto: serve gRPC (embedded: REST too) with TLS")
    grpc_channel_arguments: str = _flag("", "comma-separated KEY=VALUE arguments of the gRPC server")
    grpc_socket_path: Path | None = _flag(None, f"{describe('socket_path')} as well; with --port=0 on it alone")
    grpc_max_threads: int = _flag(0, f"{describe('max_threads')}; 0 means the runtime's own default")
    max_num_load_retries: int = _option("max_load_retries")
    load_retry_interval_micros: int = _flag(
        int(ModelOptions.load_retry_interval_s * 1e6), "microseconds between two such tries"
    )
    tensorflow_session_parallelism: int = _flag(0, "threads for both of the next two")
    tensorflow_intra_op_parallelism: int = _option("intra_op_threads")
    tensorflow_inter_op_parallelism: int = _option("inter_op_threads")
    saved_model_tags: str = _flag(",".join(ModelOptions.tags), f"comma-separated {describe('tags')}")
    enable_model_warmup: bool = _option("warmup")
    num_request_iterations_for_warmup: int = _option("warmup_iterations")
    enable_serialization_as_tensor_content: bool = _flag(
        ServerOptions.tensor_content_responses,
        f"{describe('tensor_content_responses')} (TensorFlow Serving's REST API then answers with garbage)",
    )
    enable_grpc_healthcheck_service: bool = _flag(True, "answer gRPC health checks (embedded: always)")
    rest_api_num_threads: int = _flag(0, "threads of the REST API; 0 means the runtime's own default")
    rest_api_timeout_in_ms: int = _flag(
        int(ServerOptions.rest_timeout_s * 1e3), "milliseconds that a REST request may take"
    )
    rest_api_enable_cors_support: bool = _option("rest_cors")
    host: str = _flag("127.0.0.1", "address to listen on; 0.0.0.0 for every interface", For.EMBEDDED)
    enable_console: bool = _option("enable_console", For.EMBEDDED)
    console_hosts: str = _flag(
        ",".join(ServerOptions.console_hosts), f"comma-separated {describe('console_hosts')}", For.EMBEDDED
    )
    enable_reload_rpc: bool = _option("enable_reload_rpc", For.EMBEDDED)
    max_message_mb: int = _flag(ServerOptions.max_message_bytes >> 20, "largest request in MiB", For.EMBEDDED)
    max_queued_requests: int = _option("max_queued_requests", For.EMBEDDED)
    stop_grace_seconds: float = _option("stop_grace_s", For.EMBEDDED)
    log_format: str = _flag("json", "format of the log on stderr", For.EMBEDDED, choices=("json", "text"))
    enable_batching: bool = _native(False, "batch whole requests in the server (the kit's models batch in their graph)")
    batching_parameters_file: Path | None = _native(None, "BatchingParameters text proto for --enable_batching")
    enable_per_model_batching_parameters: bool = _native(False, "read batching_params.pbtxt beside each SavedModel")
    num_load_threads: int = _native(0, "threads that load models")
    num_unload_threads: int = _native(0, "threads that unload models")
    flush_filesystem_caches: bool = _native(True, "drop the file cache after loading")
    tensorflow_session_config_file: Path | None = _native(None, "ConfigProto text proto")
    use_alts_credentials: bool = _native(False, "use Google ALTS credentials")
    platform_config_file: Path | None = _native(None, "PlatformConfigMap text proto")
    per_process_gpu_memory_fraction: float = _native(0.0, "share of the GPU's memory; 0 lets TensorFlow choose")
    remove_unused_fields_from_bundle_metagraph: bool = _native(True, "keep less of the graph in memory")
    prefer_tflite_model: bool = _native(False, "use model.tflite where a SavedModel has one")
    num_tflite_pools: int = _native(1, "TensorFlow Lite interpreter pools")
    num_tflite_interpreters_per_pool: int = _native(1, "interpreters in each pool")
    enable_signature_method_name_check: bool = _native(False, "check the signatures' method names")
    xla_cpu_compilation_enabled: bool = _native(False, "compile with XLA on CPU")
    xla_gpu_compilation_enabled: bool = _native(False, "compile with XLA on CPU and GPU")
    enable_profiler: bool = _native(True, "offer the profiler service")
    thread_pool_factory_config_file: Path | None = _native(None, "ThreadPoolFactoryConfig text proto")
    mixed_precision: str = _native("", "mixed precision mode, such as bfloat16")
    skip_initialize_tpu: bool = _native(False, "leave the TPU alone")


def flag_names(*groups: For) -> set[str]:
    """Returns the names of the flags of these groups, or of all."""
    return {each.name for each in fields(Flags) if each.metadata and (not groups or each.metadata["group"] in groups)}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds every flag to a parser, group by group."""
    for group in For:
        section = parser.add_argument_group(group.value)
        for flag in fields(Flags):
            if flag.metadata.get("group") is not group:
                continue
            kind, metavar = _KINDS[type(flag.default)]
            default = f" [{as_text(flag.default)}]" if flag.default not in (None, "") else ""
            choices = flag.metadata["choices"]
            section.add_argument(
                f"--{flag.name}",
                type=flag.metadata["kind"] or kind,
                choices=choices,
                metavar=None if choices else metavar,
                help=flag.metadata["help"] + default,
                default=argparse.SUPPRESS,
                nargs="?" if kind is _truth else None,  # a truth value may stand alone
                const=True if kind is _truth else None,
            )


def spelled(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with `--model-root` spelled `--model_root`, as TensorFlow Serving spells its flags."""
    known, result = flag_names(), []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        name = name.replace("-", "_")
        result.append(f"--{name}{equals}{value}" if argument.startswith("--") and name in known else argument)
    return result


def unknown_flag(argument: str) -> SetupError:
    """Returns the error of an argument that is no flag, with those that it may stand for."""
    if not argument.startswith("--"):
        return SetupError(f"expected a flag such as --port=8500, received {argument!r}")
    name = argument.removeprefix("--").partition("=")[0]
    close = difflib.get_close_matches(name.replace("-", "_"), flag_names(), n=3)
    hint = f"did you mean {' or '.join('--' + other for other in close)}?" if close else "--help lists all flags"
    return SetupError(f"unknown flag --{name}; {hint}")


def as_text(value: Any) -> str:
    """Returns a flag's value as a command line has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
