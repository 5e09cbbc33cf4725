"""The models, files, flags and ports that a server gets which is another program."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from ..errors import SetupError
from .flags import Flags, For, as_text, flag_names

_FILE_FLAGS = tuple(sorted(name for name in flag_names() if name.endswith("_file")))
#: These are built anew: the ports from what is free, the models from what is to be served.
_OWN_FLAGS = {"port", "rest_api_port", "model_base_path", "model_name", *_FILE_FLAGS}


def kit() -> Path:
    """Returns the directory that holds `serving/docker` and `serving/configs`: in the wheel, or in a checkout.

    Raises:
        SetupError: this installation has neither.
    """
    here = Path(__file__).parents[1]
    for root in (here / "kit", here.parent.parent):
        if (root / "serving" / "configs").is_dir():
            return root
    raise SetupError("serving/configs is not part of this installation; --runtime embedded needs none of it")


def model_server_config(flags: Flags, inside: str | None = None) -> Any:
    """Returns the `ModelServerConfig` of what the flags name.

    Args:
        flags: what the command line says.
        inside: where the server sees the model root, or the one model, if not at the same path.

    Raises:
        SetupError: the model root, the model or the file is not there.
    """
    from ..models.config import file as config_file
    from ..models.paths import check_base_path

    if flags.model_root is not None:
        return config_file.from_model_root(flags.model_root, inside)
    if (base_path := flags.model_base_path) is not None:
        if not base_path.is_dir():
            raise SetupError(f"--model_base_path: {base_path}: no such directory")
        check_base_path(base_path)
        return config_file.of_one_model(flags.model_name, Path(inside or base_path))
    return config_file.read(given_files(flags)["model_config_file"])


def model_names(config: Any) -> tuple[str, ...]:
    """Returns the names of the models."""
    return tuple(model.name for model in config.model_config_list.config)


def write_models(folder: Path, config: Any) -> Path:
    """Writes a `ModelServerConfig`; returns the path of the file."""
    from ..models.config import file as config_file

    path = folder / "models.config"
    path.write_text(config_file.to_text(config))
    return path


def given_files(flags: Flags) -> dict[str, Path]:
    """Returns the files that flags name.

    Raises:
        SetupError: a file is not there.
    """
    files: dict[str, Path] = {name: path for name in _FILE_FLAGS if (path := getattr(flags, name)) is not None}
    for name, path in files.items():
        if not path.is_file():
            raise SetupError(f"--{name}: {path}: no such file")
    return files


def given_flags(flags: Flags) -> dict[str, str]:
    """Returns the flags that are passed on as they are."""
    passed = flag_names(For.ALL, For.NATIVE) - _OWN_FLAGS
    return {name: as_text(getattr(flags, name)) for name in flags.given & passed}


def ports(flags: Flags) -> tuple[int, int | None]:
    """Returns the ports of gRPC and REST: the ones asked for, or free ones; of gRPC 0 for a socket alone."""
    rest = (flags.rest_api_port or _free_port()) if flags.rest_api_port >= 0 else None
    if flags.grpc_socket_path is not None and not flags.port:
        return 0, rest
    return flags.port or _free_port(), rest


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
