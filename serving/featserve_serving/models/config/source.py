"""Where the model set comes from: a model root, one model, or a configuration file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import SetupError
from ..paths import check_base_path, local_path
from . import file


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Gives the `ModelServerConfig`, whenever it is asked.

    Attributes:
        read: reads or generates the configuration anew.
        each: serve the models that can be served; else the configuration holds as a whole or not at all.
    """

    read: Callable[[], Any]
    each: bool = False


def model_source(
    *,
    model_root: str | Path | None = None,
    model_base_path: str | Path | None = None,
    model_name: str = "default",
    model_config_file: str | Path | None = None,
) -> ModelSource:
    """Returns the source of a model root, of one model, or of a configuration file.

    Raises:
        SetupError: none of the three is given, or more than one, or a path is not of this machine, or one level off.
    """
    given = [path for path in (model_root, model_base_path, model_config_file) if path is not None]
    if len(given) != 1:
        raise SetupError(
            f"give exactly one of model_root, model_base_path and model_config_file; received {len(given)}"
        )
    path = local_path(given[0])
    if model_root is not None:
        return ModelSource(read=lambda: file.from_model_root(path), each=True)
    if model_base_path is not None:
        check_base_path(path)
        return ModelSource(read=lambda: file.of_one_model(model_name, path))
    return ModelSource(read=lambda: file.read(path))
