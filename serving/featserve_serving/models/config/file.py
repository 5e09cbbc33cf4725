"""The `models.config` of a model root: generated, and merged with what a person wrote into it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from google.protobuf import text_format

from ...errors import SetupError
from ...protos import text_files
from ...protos.generated import model_server_config_pb2
from ..paths import meant
from ..versions import scan_versions

#: A file of this name in the model root is honoured: its entries stay as they are.
FILE = "models.config"
#: The newest, and the one before it, so that a label can move back without a load.
_VERSIONS_KEPT = 2
_HEADER = (
    "# tensorflow.serving.ModelServerConfig, made by `featserve-serve models-config`. An entry that is edited by hand\n"
    "# stays as it is when this file lies in the model root as models.config; new models are added.\n"
)


def of_one_model(name: str, base_path: Path) -> Any:
    """Returns the configuration of one model, whose newest version is served."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=str(base_path.absolute()), model_platform="tensorflow")
    return config


def from_model_root(root: Path, served_from: str | None = None) -> Any:
    """Returns the configuration of every model directory under a root.

    The two newest versions of each are served. The label `canary` is the newest, `stable` the one before it, or the
    only one. A model that the root's own `models.config` lists keeps the entry that it has there.

    Args:
        root: the directory of `MODEL/VERSION/` directories.
        served_from: where the server will see the root, if not at the same path, such as `/models` in a container.

    Raises:
        SetupError: the root is no directory, or holds no model.
    """
    try:
        paths = sorted(path for path in root.absolute().iterdir() if path.is_dir() and path.name[0] not in "._")
    except OSError as exc:
        advice = "; export a model first" if isinstance(exc, FileNotFoundError) else ""
        raise SetupError(f"model root {root}: {exc.strerror}{advice}") from exc
    config = model_server_config_pb2.ModelServerConfig()
    if (root / FILE).is_file():
        config = _read(root / FILE)
    listed = {model.name for model in config.model_config_list.config}
    for path in paths:
        versions = sorted(scan_versions(path) or (), reverse=True)
        if versions and path.name not in listed:
            _add(config, path.name, str(path), versions)
    if not config.model_config_list.config:
        advice = meant(root) or "export a model first"
        raise SetupError(f"model root {root}: expected MODEL/VERSION/saved_model.pb, found no such model; {advice}")
    if served_from is not None:
        for model in config.model_config_list.config:
            inside = Path(model.base_path)
            if inside.is_relative_to(root.absolute()):
                model.base_path = str(PurePosixPath(served_from, *inside.relative_to(root.absolute()).parts))
    return config


def read(path: Path) -> Any:
    """Reads and checks a `ModelServerConfig` text proto.

    Raises:
        SetupError: the file cannot be read or is malformed; the text has the line and the field.
    """
    config = _read(path)
    if config.WhichOneof("config") != "model_config_list" or not config.model_config_list.config:
        raise SetupError(f"{path}: expected a model_config_list with at least one config")
    return config


def to_text(config: Any) -> str:
    """Returns a configuration as the text of a file."""
    return _HEADER + text_format.MessageToString(config)


def _read(path: Path) -> Any:
    return text_files.read(path, model_server_config_pb2.ModelServerConfig())


def _add(config: Any, name: str, base_path: str, versions: list[int]) -> None:
    model = config.model_config_list.config.add(name=name, base_path=base_path, model_platform="tensorflow")
    model.model_version_policy.latest.num_versions = _VERSIONS_KEPT
    newest, *older = versions
    model.version_labels["stable"] = older[0] if older else newest
    if older:
        model.version_labels["canary"] = newest
