"""TensorFlow Serving itself, from PATH, started with the flags of the kit."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from pathlib import Path

from . import foreign, platform_config
from .flags import Flags
from .process import ServerCommand

BINARY = "tensorflow_model_server"
#: What hurts when it is left at TensorFlow Serving's own default; a flag that is given wins.
_BETTER_DEFAULTS = {
    "enable_grpc_healthcheck_service": "true",
    "enable_profiler": "false",  # on, it lets any caller trace the process
    "grpc_max_threads": "256",  # 4 x cores refuses the ninth caller on 2 cores
    "allow_version_labels_for_unavailable_models": "true",  # or a file with labels is refused at start
}
#: The same for its environment.
_BETTER_ENVIRONMENT = {
    "TF_ENABLE_ONEDNN_OPTS": "1",  # off by itself where the CPU has no AVX512-VNNI
    "MALLOC_ARENA_MAX": "2",  # or each thread keeps what it freed
}
_MONITORING = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'


def unavailable() -> str | None:
    """Returns why TensorFlow Serving cannot be run directly, or `None` if it is on PATH."""
    return None if shutil.which(BINARY) else f"{BINARY} is not on PATH"


def server_command(flags: Flags, folder: Path) -> ServerCommand:
    """Returns the command; configuration files that it needs are written into `folder`.

    Raises:
        SetupError: the models or a file are not there.
    """
    served = foreign.model_server_config(flags)
    files = foreign.given_files(flags)
    if "model_config_file" not in files:
        files["model_config_file"] = foreign.write_models(folder, served)
    port, rest_port = foreign.ports(flags)
    if rest_port is not None and "monitoring_config_file" not in files:
        files["monitoring_config_file"] = folder / "monitoring.config"
        files["monitoring_config_file"].write_text(_MONITORING)
    if "platform_config_file" not in files:
        if session_flags := platform_config.NOT_IN_FILE & flags.given:
            names = ", ".join(f"--{name}" for name in sorted(session_flags))
            print(f"featserve-serve: with {names} the metrics of batches do not name the model", file=sys.stderr)
        else:
            template = foreign.kit() / "serving" / "configs" / "platform.config.template"
            files["platform_config_file"] = folder / "platform.config"
            files["platform_config_file"].write_text(platform_config.filled(template, flags))
    passed = {**_BETTER_DEFAULTS, **foreign.given_flags(flags)}
    passed |= {name: str(path.absolute()) for name, path in files.items()}
    passed |= {"port": str(port), "rest_api_port": str(rest_port or 0)}
    return ServerCommand(
        command=[BINARY, *(f"--{name}={value}" for name, value in sorted(passed.items()))],
        environment={name: os.environ.get(name, value) for name, value in _BETTER_ENVIRONMENT.items()},
        host="0.0.0.0",
        port=port,
        rest_port=rest_port,
        models=foreign.model_names(served),
        is_ready=_is_open
        if port
        else lambda _: flags.grpc_socket_path is not None and flags.grpc_socket_path.is_socket(),
    )


def _is_open(server: ServerCommand) -> bool:
    """Tries the port: TensorFlow Serving opens it once the models are loaded."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", server.port)) == 0
