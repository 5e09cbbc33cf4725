"""TensorFlow Serving itself, from PATH or in its container, started with the flags of the kit."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._errors import SetupError
from ._flags import FLAGS, For, Settings

BINARY = "tensorflow_model_server"
#: What hurts when it is left at TensorFlow Serving's own default; a flag that is given wins.
_BETTER_DEFAULTS = {
    "enable_grpc_healthcheck_service": "true",
    "enable_profiler": "false",  # on, it lets any caller trace the process
    "grpc_max_threads": "256",  # 4 x cores refuses the ninth caller on 2 cores
    "allow_version_labels_for_unavailable_models": "true",  # or a file with labels is refused at start
}
_MONITORING = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n'
_FILE_FLAGS = tuple(flag.name for flag in FLAGS if flag.name.endswith("_file"))
#: These are built anew: the ports from what is free, the models from what is to be served.
_OWN_FLAGS = ("port", "rest_api_port", "model_base_path", "model_name", *_FILE_FLAGS)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A command, what it mounts and where it will listen."""

    command: list[str]
    host: str
    port: int
    rest_port: int | None
    models: tuple[str, ...]


def docker_reason() -> str | None:
    """Return why no Docker engine can be used, or `None` if one answers."""
    if shutil.which("docker") is None:
        return "docker is not on PATH"
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return f"docker does not answer: {exc}"
    if done.returncode:
        return f"no Docker engine answers: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}"
    return None


def native_reason() -> str | None:
    """Return why TensorFlow Serving cannot be run directly, or `None` if it is on PATH."""
    return None if shutil.which(BINARY) else f"{BINARY} is not on PATH"


def serve(settings: Settings, *, in_docker: bool) -> int:
    """Run TensorFlow Serving until it ends or is asked to; return the exit status."""
    with tempfile.TemporaryDirectory(prefix="featserve-") as folder:
        return _run(plan(settings, Path(folder), in_docker=in_docker))


def plan(settings: Settings, folder: Path, *, in_docker: bool) -> Plan:
    """Return the command; configuration files that it needs are written into `folder`.

    Raises:
        SetupError: the models or a file are not there.
    """
    try:
        from . import _models_config
    except ModuleNotFoundError as exc:
        raise SetupError(f"reading model configuration needs {exc.name}: pip install 'featserve[serving]'") from exc
    models = _models(settings, _models_config)
    files = {name: path for name in _FILE_FLAGS if (path := settings.path(name)) is not None}
    for name, path in files.items():
        if not path.is_file():
            raise SetupError(f"--{name}: {path}: no such file")
    if "model_config_file" not in files:
        files["model_config_file"] = folder / "models.config"
        files["model_config_file"].write_text(_models_config.to_text(models))
    with_rest = settings.whole("rest_api_port") >= 0
    if with_rest and "monitoring_config_file" not in files:
        files["monitoring_config_file"] = folder / "monitoring.config"
        files["monitoring_config_file"].write_text(_MONITORING)
    port = settings.port("port") or _free_port()
    rest_port = (settings.port("rest_api_port") or _free_port()) if with_rest else None
    inside = {name: f"/etc/featserve/{name}" if in_docker else str(path.absolute()) for name, path in files.items()}
    flags = {**_BETTER_DEFAULTS, **_given(settings), **inside}
    flags["port"] = "8500" if in_docker else str(port)
    flags["rest_api_port"] = "0" if rest_port is None else "8501" if in_docker else str(rest_port)
    command = [f"--{name}={value}" for name, value in sorted(flags.items())]
    if in_docker:
        command = [*_docker(settings, port, rest_port, files, inside, models), *command]
    else:
        command = [BINARY, *command]
    return Plan(
        command=command,
        host=settings.text("host") if in_docker else "0.0.0.0",
        port=port,
        rest_port=rest_port,
        models=tuple(model.name for model in models.model_config_list.config),
    )


def _models(settings: Settings, models_config: Any) -> Any:
    if root := settings.path("model_root"):
        return models_config.from_model_root(root)
    if base_path := settings.path("model_base_path"):
        if not base_path.is_dir():
            raise SetupError(f"--model_base_path: {base_path}: no such directory")
        return models_config.of_one_model(settings.text("model_name"), base_path)
    return models_config.read(settings.path("model_config_file"))


def _given(settings: Settings) -> dict[str, str]:
    passed = {flag.name for flag in FLAGS if flag.meant_for in (For.ALL, For.NATIVE) and flag.name not in _OWN_FLAGS}
    return {name: settings.plain(name) for name in settings.given & passed}


def _docker(
    settings: Settings,
    port: int,
    rest_port: int | None,
    files: dict[str, Path],
    inside: dict[str, str],
    models: Any,
) -> list[str]:
    host = settings.text("host")
    command = ["docker", "run", "--rm", "--init", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    command += ["--security-opt", "no-new-privileges", "--user", f"{os.getuid()}:{os.getgid()}"]
    command += ["--publish", f"{host}:{port}:8500"]
    if rest_port is not None:
        command += ["--publish", f"{host}:{rest_port}:8501"]
    for name, path in files.items():
        command += ["--volume", f"{path.absolute()}:{inside[name]}:ro"]
    # At the same paths inside, so that one models.config is right for every runtime.
    for base_path in sorted({model.base_path for model in models.model_config_list.config}):
        command += ["--volume", f"{base_path}:{base_path}:ro"]
    return [*command, "--entrypoint", BINARY, settings.text("image")]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run(planned: Plan) -> int:
    process = subprocess.Popen(planned.command, stdout=sys.stderr)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.terminate())
    if _wait_until_open(process, planned.port):
        for name in planned.models:
            print(f"serving {name} at {planned.host}:{planned.port}")
        if planned.rest_port is not None:
            print(f"REST at {planned.host}:{planned.rest_port}")
        sys.stdout.flush()
    status = process.wait()
    return 0 if status in (-signal.SIGTERM, 128 + signal.SIGTERM) else status


def _wait_until_open(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether the port opened: TensorFlow Serving opens it once the models are loaded."""
    while process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.2)
    return False
