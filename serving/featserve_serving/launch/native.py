"""TensorFlow Serving itself, from PATH, started with the flags of the kit; and how any foreign server is run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SetupError
from .flags import Flags, For, as_text, flag_names

BINARY = "tensorflow_model_server"
#: What hurts when it is left at TensorFlow Serving's own default; a flag that is given wins.
_BETTER_DEFAULTS = {
    "enable_grpc_healthcheck_service": "true",
    "enable_profiler": "false",  # on, it lets any caller trace the process
    "grpc_max_threads": "256",  # 4 x cores refuses the ninth caller on 2 cores
    "allow_version_labels_for_unavailable_models": "true",  # or a file with labels is refused at start
}
_MONITORING = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'
_FILE_FLAGS = tuple(sorted(name for name in flag_names() if name.endswith("_file")))
#: These are built anew: the ports from what is free, the models from what is to be served.
_OWN_FLAGS = {"port", "rest_api_port", "model_base_path", "model_name", *_FILE_FLAGS}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A command, where it will listen, and how to tell that it does."""

    command: list[str]
    host: str
    port: int
    rest_port: int | None
    models: tuple[str, ...]
    is_ready: Callable[[Plan], bool]
    environment: dict[str, str] = field(default_factory=dict)
    #: What stops it gently, and what at once; where there are none, SIGTERM does.
    stop: list[str] = field(default_factory=list)
    stop_now: list[str] = field(default_factory=list)


def native_reason() -> str | None:
    """Return why TensorFlow Serving cannot be run directly, or `None` if it is on PATH."""
    return None if shutil.which(BINARY) else f"{BINARY} is not on PATH"


def serve(flags: Flags, plan_of: Callable[[Flags, Path], Plan]) -> int:
    """Run what is planned until it ends or is asked to; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="featserve-") as folder:
        return _run(plan_of(flags, Path(folder)))


def plan(flags: Flags, folder: Path) -> Plan:
    """Return the command; configuration files that it needs are written into `folder`.

    Raises:
        SetupError: the models or a file are not there.
    """
    served = models(flags)
    files = given_files(flags)
    if "model_config_file" not in files:
        files["model_config_file"] = write_models(folder, served)
    port, rest_port = ports(flags)
    if rest_port is not None and "monitoring_config_file" not in files:
        files["monitoring_config_file"] = folder / "monitoring.config"
        files["monitoring_config_file"].write_text(_MONITORING)
    passed = {**_BETTER_DEFAULTS, **given_flags(flags)}
    passed |= {name: str(path.absolute()) for name, path in files.items()}
    passed |= {"port": str(port), "rest_api_port": str(rest_port or 0)}
    return Plan(
        command=[BINARY, *(f"--{name}={value}" for name, value in sorted(passed.items()))],
        host="0.0.0.0",
        port=port,
        rest_port=rest_port,
        models=names(served),
        is_ready=_is_open,
    )


def models(flags: Flags, inside: str | None = None) -> Any:
    """Return the `ModelServerConfig` of what the flags name.

    Args:
        flags: what the command line says.
        inside: where the server sees the model root, or the one model, if not at the same path.

    Raises:
        SetupError: it is not there.
    """
    from ..models import config_file

    if flags.model_root is not None:
        return config_file.from_model_root(flags.model_root, inside)
    if (base_path := flags.model_base_path) is not None:
        if not base_path.is_dir():
            raise SetupError(f"--model_base_path: {base_path}: no such directory")
        return config_file.of_one_model(flags.model_name, Path(inside or base_path))
    return config_file.read(given_files(flags)["model_config_file"])


def names(config: Any) -> tuple[str, ...]:
    """Return the names of the models."""
    return tuple(model.name for model in config.model_config_list.config)


def write_models(folder: Path, config: Any) -> Path:
    """Write a `ModelServerConfig`; return the file."""
    from ..models import config_file

    path = folder / "models.config"
    path.write_text(config_file.to_text(config))
    return path


def given_files(flags: Flags) -> dict[str, Path]:
    """Return the files that flags name.

    Raises:
        SetupError: one is not there.
    """
    files: dict[str, Path] = {name: path for name in _FILE_FLAGS if (path := getattr(flags, name)) is not None}
    for name, path in files.items():
        if not path.is_file():
            raise SetupError(f"--{name}: {path}: no such file")
    return files


def given_flags(flags: Flags) -> dict[str, str]:
    """Return the flags that are passed on as they are."""
    passed = flag_names(For.ALL, For.NATIVE) - _OWN_FLAGS
    return {name: as_text(getattr(flags, name)) for name in flags.given & passed}


def ports(flags: Flags) -> tuple[int, int | None]:
    """Return the ports of gRPC and REST: the ones asked for, or free ones."""
    rest = (flags.rest_api_port or _free_port()) if flags.rest_api_port >= 0 else None
    return flags.port or _free_port(), rest


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(planned: Plan) -> int:
    asked = handled = 0

    def note(*_: object) -> None:
        nonlocal asked
        asked += 1

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, note)
    process = _start(planned, planned.command)
    stopping: list[subprocess.Popen[bytes]] = []
    ready = False
    while process.poll() is None:
        if asked > handled:
            handled += 1
            if planned.stop:
                stopping.append(_start(planned, planned.stop_now if handled > 1 else planned.stop))
        if handled and all(each.poll() is not None for each in stopping):
            os.killpg(process.pid, signal.SIGTERM)
        if not ready and not asked and planned.is_ready(planned):
            ready = True
            _announce(planned)
        time.sleep(0.1)
    if planned.stop and not stopping:
        stopping.append(_start(planned, planned.stop))
    for each in stopping:
        each.wait()
    status = process.returncode
    return 0 if asked else status if status >= 0 else 128 - status


def _start(planned: Plan, command: list[str]) -> subprocess.Popen[bytes]:
    # In a session of its own: Ctrl-C is this process's to answer, or a child would get it twice.
    environment = {**os.environ, **planned.environment}
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=environment, start_new_session=True
    )


def _announce(planned: Plan) -> None:
    for name in planned.models:
        print(f"serving {name} at {planned.host}:{planned.port}")
    if planned.rest_port is not None:
        print(f"REST at {planned.host}:{planned.rest_port}")
    sys.stdout.flush()


def _is_open(planned: Plan) -> bool:
    """Try the port: TensorFlow Serving opens it once the models are loaded."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", planned.port)) == 0
