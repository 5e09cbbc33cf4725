"""TensorFlow Serving in its container, with Prometheus and Grafana: the kit's compose file, told what to serve."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

from ..errors import SetupError
from . import foreign
from .flags import Flags
from .process import ServerCommand

#: Where the compose file mounts the models, and the files that flags name.
_MODELS, _ETC = "/models", "/etc/featserve"
_SERVICES = ("server", "watch", "prometheus", "grafana")
_COMPOSE = Path("serving", "docker", "compose.yaml")
#: The user of the image. Root may read everything, and so needs no container of its own number.
_IMAGE_USER = 10001


def unavailable() -> str | None:
    """Returns why the containers cannot be run, or `None` if they can."""
    if shutil.which("docker") is None:
        return "docker is not on PATH"
    if why := _failure("docker", "version", "--format", "{{.Server.Version}}"):
        return f"no Docker engine answers: {why}"
    if why := _failure("docker", "compose", "version"):
        return f"docker has no compose plugin (https://docs.docker.com/compose/install): {why}"
    return None


def server_command(flags: Flags, folder: Path) -> ServerCommand:
    """Returns the command; what the compose file does not say by itself is written into `folder`.

    The tuning flags are those of `server.flags`, which the image holds; a flag that is given wins.

    Raises:
        SetupError: the models or a file are not there, REST is turned off, or a socket is asked for.
    """
    if flags.grpc_socket_path is not None:
        raise SetupError(
            "--grpc_socket_path: a socket in a container cannot be reached; leave it out, or use --runtime embedded"
        )
    if flags.rest_api_port < 0:
        raise SetupError("--rest_api_port -1: the containers need REST, for the health check and Prometheus")
    files = foreign.given_files(flags)
    config_file = files.pop("model_config_file", None)
    models = foreign.model_server_config(flags, inside=_MODELS)
    root = flags.model_root or flags.model_base_path or _root_of(models) or folder
    if config_file is None:
        config_file = foreign.write_models(folder, models)
    volumes = [_mount(path, f"{_ETC}/{name}") for name, path in files.items()]
    for base_path in sorted({model.base_path for model in models.model_config_list.config}):
        if Path(base_path).is_absolute() and not Path(base_path).is_relative_to(_MODELS):
            volumes.append(_mount(Path(base_path), base_path))
    passed = {**foreign.given_flags(flags), **{name: f"{_ETC}/{name}" for name in files}}
    # In the foreground the end of the server is the end of all; the caller's own user may read the caller's own files.
    services: dict[str, dict[str, object]] = {name: {"restart": "no"} for name in _SERVICES}
    services["server"] |= {
        "user": f"{os.getuid() or _IMAGE_USER}:{os.getgid() or _IMAGE_USER}",
        "command": [f"--{name}={value}" for name, value in sorted(passed.items())],
        "volumes": volumes,
    }
    override = folder / "compose.json"
    override.write_text(json.dumps({"services": services}, indent=1))
    port, rest_port = foreign.ports(flags)
    host = flags.host
    compose = ["docker", "compose", "-p", "featserve", "-f", str(foreign.kit() / _COMPOSE), "-f", str(override)]
    return ServerCommand(
        command=[*compose, "up", "--build", "--exit-code-from", "server"],
        # Commands, for a signal does not reach compose through every version of docker.
        stop=[*compose, "down"],
        stop_now=[*compose, "kill"],
        environment={
            "BIND": f"[{host}]" if ":" in host else host,
            "PORT": str(port),
            "REST_PORT": str(rest_port),
            "MODEL_ROOT": str(root.absolute()),
            "MODELS_CONFIG": str(config_file.absolute()),
            "SERVING_TAG": flags.serving_tag,
        },
        host=host,
        port=port,
        rest_port=rest_port,
        models=foreign.model_names(models),
        is_ready=_is_available,
    )


def _root_of(models: Any) -> Path | None:
    """Returns the directory that a configuration file takes for `/models`, or `None` if it names nothing there.

    Raises:
        SetupError: a model is not in that directory.
    """
    inside = [Path(model.base_path) for model in models.model_config_list.config]
    inside = [path for path in inside if path.is_relative_to(_MODELS)]
    if not inside:
        return None
    root = Path(os.environ.get("MODEL_ROOT") or foreign.kit() / "build" / "models")
    for path in inside:
        if not (here := root / path.relative_to(_MODELS)).is_dir():
            raise SetupError(
                f"--model_config_file: {path} is {here} on this machine, and there is no such directory; "
                f"set MODEL_ROOT to the directory that {_MODELS} stands for"
            )
    return root


def _mount(source: Path, target: str) -> dict[str, object]:
    # In the long form a source that is missing is an error, where the short form makes a directory of it.
    return {"type": "bind", "source": str(source.absolute()), "target": target, "read_only": True}


def _is_available(server: ServerCommand) -> bool:
    """Asks REST: Docker opens the ports before the server does."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)
    host = f"[{host}]" if ":" in host else host
    for name in server.models:
        try:
            with urllib.request.urlopen(f"http://{host}:{server.rest_port}/v1/models/{name}", timeout=5) as answer:
                if b'"AVAILABLE"' not in answer.read():
                    return False
        except (OSError, ValueError):
            return False
    return True


def _failure(*command: str) -> str | None:
    """Returns the last line of what a command complains about, or `None` if it succeeds."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    if not done.returncode:
        return None
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
