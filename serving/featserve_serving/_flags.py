"""The command line, with TensorFlow Serving's own flag names.

Reference: tensorflow_serving/model_servers/main.cc.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import _errors


class For(enum.Enum):
    """Which servers a flag means something to."""

    ALL = "every runtime"
    NATIVE = "docker and native"
    EMBEDDED = "embedded"
    LAUNCHER = "the launcher"


Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag: its default tells its type."""

    name: str
    default: Value
    help: str
    meant_for: For = For.ALL
    choices: tuple[str, ...] = ()


def _native(name: str, default: Value, text: str) -> Flag:
    return Flag(name=name, default=default, help=text, meant_for=For.NATIVE)


def _embedded(name: str, default: Value, text: str) -> Flag:
    return Flag(name=name, default=default, help=text, meant_for=For.EMBEDDED)


FLAGS: tuple[Flag, ...] = (
    Flag(
        name="runtime",
        default="auto",
        help="server to run; auto takes a reachable Docker engine, else tensorflow_model_server on PATH, else embedded",
        meant_for=For.LAUNCHER,
        choices=("auto", "docker", "native", "embedded"),
    ),
    Flag(
        name="model_root",
        default="",
        help="directory of MODEL/VERSION/ directories: serve every model in it",
        meant_for=For.LAUNCHER,
    ),
    Flag(
        name="serving_tag",
        default="2.20.0",
        help="tag of tensorflow/serving for --runtime docker, such as 2.20.0-gpu",
        meant_for=For.LAUNCHER,
    ),
    _embedded("host", "127.0.0.1", "address to listen on; 0.0.0.0 for every interface"),
    Flag(name="port", default=8500, help="gRPC port; 0 means any free one (embedded)"),
    Flag(name="rest_api_port", default=8501, help="REST port; 0 means any free one (embedded), -1 means no REST"),
    Flag(name="model_name", default="default", help="name for --model_base_path"),
    Flag(name="model_base_path", default="", help="directory of VERSION/ directories: serve this one model"),
    Flag(name="model_config_file", default="", help="ModelServerConfig text proto: serve the models in it"),
    Flag(
        name="model_config_file_poll_wait_seconds",
        default=0,
        help="seconds between two readings of --model_config_file; 0 means once",
    ),
    Flag(
        name="file_system_poll_wait_seconds",
        default=1,
        help="seconds between two looks for new versions; 0 means once",
    ),
    Flag(
        name="allow_version_labels_for_unavailable_models",
        default=False,
        help="let a label that is not in use name a version that is not loaded",
    ),
    Flag(name="monitoring_config_file", default="", help="MonitoringConfig text proto: Prometheus on or off, its path"),
    Flag(name="ssl_config_file", default="", help="SSLConfig text proto: serve gRPC with TLS"),
    Flag(name="grpc_channel_arguments", default="", help="comma-separated KEY=VALUE arguments of the gRPC server"),
    Flag(name="grpc_max_threads", default=0, help="requests computed at once; 0 means the runtime's own default"),
    Flag(name="max_num_load_retries", default=0, help="further tries after a version failed to load"),
    Flag(name="load_retry_interval_micros", default=60_000_000, help="microseconds between two such tries"),
    Flag(name="tensorflow_session_parallelism", default=0, help="threads for both of the next two"),
    Flag(name="tensorflow_intra_op_parallelism", default=0, help="threads of one operation; 0 means one per core"),
    Flag(name="tensorflow_inter_op_parallelism", default=0, help="operations at once; 0 means one per core"),
    Flag(name="saved_model_tags", default="serve", help="comma-separated tags of the graph to load"),
    Flag(name="enable_model_warmup", default=True, help="replay the model's warm-up requests before it takes others"),
    Flag(name="num_request_iterations_for_warmup", default=1, help="times that each warm-up request is replayed"),
    Flag(
        name="enable_serialization_as_tensor_content",
        default=False,
        help="answer in tensor_content (TensorFlow Serving's REST API then answers with garbage)",
    ),
    Flag(name="enable_grpc_healthcheck_service", default=True, help="answer gRPC health checks (embedded: always)"),
    _embedded("enable_reload_rpc", False, "let callers change the model set; on loopback they may anyway"),
    _embedded("max_message_mb", 256, "largest request in MiB"),
    _embedded("max_queued_requests", 16, "requests that may wait for a thread; more are refused at once"),
    _embedded("stop_grace_seconds", 10.0, "seconds that running requests may take after SIGTERM"),
    _embedded("log_format", "json", "json or text, on stderr"),
    Flag(name="rest_api_num_threads", default=0, help="threads of the REST API; 0 means the runtime's own default"),
    Flag(name="rest_api_timeout_in_ms", default=30_000, help="time that a REST request may take"),
    Flag(name="rest_api_enable_cors_support", default=False, help="send CORS headers"),
    _native("grpc_socket_path", "", "UNIX socket to listen on as well"),
    _native("enable_batching", False, "batch whole requests in the server (the kit's models batch in their graph)"),
    _native("batching_parameters_file", "", "BatchingParameters text proto for --enable_batching"),
    _native("enable_per_model_batching_parameters", False, "read batching_params.pbtxt beside each SavedModel"),
    _native("num_load_threads", 0, "threads that load models"),
    _native("num_unload_threads", 0, "threads that unload models"),
    _native("flush_filesystem_caches", True, "drop the file cache after loading"),
    _native("tensorflow_session_config_file", "", "ConfigProto text proto"),
    _native("use_alts_credentials", False, "use Google ALTS credentials"),
    _native("platform_config_file", "", "PlatformConfigMap text proto"),
    _native("per_process_gpu_memory_fraction", 0.0, "share of the GPU's memory; 0 lets TensorFlow choose"),
    _native("remove_unused_fields_from_bundle_metagraph", True, "keep less of the graph in memory"),
    _native("prefer_tflite_model", False, "use model.tflite where a SavedModel has one"),
    _native("num_tflite_pools", 1, "TensorFlow Lite interpreter pools"),
    _native("num_tflite_interpreters_per_pool", 1, "interpreters in each pool"),
    _native("enable_signature_method_name_check", False, "check the signatures' method names"),
    _native("xla_cpu_compilation_enabled", False, "compile with XLA on CPU"),
    _native("xla_gpu_compilation_enabled", False, "compile with XLA on CPU and GPU"),
    _native("enable_profiler", True, "offer the profiler service"),
    _native("thread_pool_factory_config_file", "", "ThreadPoolFactoryConfig text proto"),
    _native("mixed_precision", "", "mixed precision mode, such as bfloat16"),
    _native("skip_initialize_tpu", False, "leave the TPU alone"),
)
_BY_NAME = {flag.name: flag for flag in FLAGS}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of all flags, and which of them were given."""

    values: dict[str, Value]
    given: frozenset[str]

    def text(self, name: str) -> str:
        return str(self.values[name])

    def plain(self, name: str) -> str:
        """Return the value as a command line has it."""
        value = self.values[name]
        return str(value).lower() if isinstance(value, bool) else str(value)

    def path(self, name: str) -> Path | None:
        """Return a path, or `None` where the flag is empty."""
        return Path(self.text(name)) if self.text(name) else None

    def whole(self, name: str) -> int:
        return int(self.values[name])

    def port(self, name: str) -> int:
        """Return a port; -1, no port, comes back as 0."""
        port = self.whole(name)
        if not -1 <= port <= 65535:
            raise _errors.SetupError(f"--{name} expects a port from 0 to 65535; received {port}")
        return max(0, port)

    def number(self, name: str) -> float:
        return float(self.values[name])

    def on(self, name: str) -> bool:
        return bool(self.values[name])


def parse(arguments: Sequence[str]) -> Settings:
    """Read `--flag=value` and `--flag value`; a truth value may stand alone.

    Raises:
        SetupError: an unknown flag, or a value of the wrong type.
    """
    values: dict[str, Value] = {flag.name: flag.default for flag in FLAGS}
    given = set()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise _errors.SetupError(f"expected a flag such as --port=8500, received {argument!r}")
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        flag = _BY_NAME.get(name)
        if flag is None:
            raise _errors.SetupError(_unknown(name))
        if not equals:
            if isinstance(flag.default, bool) and (not rest or rest[0].startswith("--")):
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise _errors.SetupError(f"--{name} expects a value")
        values[name] = _typed(flag, value)
        given.add(name)
    return Settings(values=values, given=frozenset(given))


def _typed(flag: Flag, text: str) -> Value:
    if flag.choices and text not in flag.choices:
        raise _errors.SetupError(f"--{flag.name} expects one of {', '.join(flag.choices)}; received {text!r}")
    if isinstance(flag.default, bool):
        lowered = text.lower()
        if lowered not in ("true", "false", "1", "0"):
            raise _errors.SetupError(f"--{flag.name} expects true or false; received {text!r}")
        return lowered in ("true", "1")
    kind = type(flag.default)
    try:
        return kind(text)
    except ValueError as exc:
        names = {int: "a whole number", float: "a number"}
        raise _errors.SetupError(f"--{flag.name} expects {names[kind]}; received {text!r}") from exc


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, _BY_NAME, n=3)
    hint = f"did you mean {' or '.join('--' + other for other in close)}? " if close else ""
    return f"unknown flag --{name}; {hint}known flags: {' '.join(sorted('--' + known for known in _BY_NAME))}"


def usage() -> str:
    """Return the text of `--help`."""
    lines = [
        "usage: featserve-serve [--FLAG=VALUE | --FLAG VALUE]...",
        "       featserve-serve ssl-config --cert FILE --key FILE [--client-ca FILE]",
        "       featserve-serve models-config --model_root DIR [--served_from DIR]",
        "",
        "Serve SavedModels over gRPC and REST. Give one of --model_root, --model_base_path, --model_config_file.",
    ]
    titles = {
        For.LAUNCHER: "What to run",
        For.ALL: "Every runtime (TensorFlow Serving's names)",
        For.EMBEDDED: "Embedded server",
        For.NATIVE: "Docker and native (passed through)",
    }
    for group, title in titles.items():
        lines += ["", f"{title}:"]
        for flag in FLAGS:
            if flag.meant_for is group:
                choices = f" ({'|'.join(flag.choices)})" if flag.choices else ""
                default = f" [{str(flag.default).lower() if isinstance(flag.default, bool) else flag.default}]"
                lines.append(f"  --{flag.name}{choices}: {flag.help}{default if flag.default != '' else ''}")
    return "\n".join(lines)
