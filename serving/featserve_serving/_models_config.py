"""The `models.config` of a model root: read, generated, and merged with what a person wrote into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from . import _errors, _versions


def of_one_model(name: str, base_path: Path) -> Any:
    """Return the configuration of one model."""
    config = model_server_config_pb2.ModelServerConfig()
    _add(config, name, base_path)
    return config


def from_model_root(root: Path) -> Any:
    """Return the configuration of every model directory under a root.

    Raises:
        SetupError: the root is no directory, or holds no model.
    """
    if not root.is_dir():
        raise _errors.SetupError(f"model root {root}: no such directory; export a model first")
    config = model_server_config_pb2.ModelServerConfig()
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and _versions.scan(path):
            _add(config, path.name, path)
    if not config.model_config_list.config:
        raise _errors.SetupError(
            f"model root {root}: expected MODEL/VERSION/saved_model.pb, found no such model; export a model first"
        )
    return config


def read(path: Path) -> Any:
    """Read a `ModelServerConfig` text proto.

    Raises:
        SetupError: the file cannot be read or is malformed; the text has the line and the field.
    """
    try:
        return text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())
    except OSError as exc:
        raise _errors.SetupError(f"{path}: {exc.strerror}") from exc
    except (text_format.ParseError, UnicodeDecodeError) as exc:
        raise _errors.SetupError(f"{path}: not a ModelServerConfig text proto: {exc}") from exc


def _add(config: Any, name: str, base_path: Path) -> None:
    config.model_config_list.config.add(name=name, base_path=str(base_path.resolve()), model_platform="tensorflow")
