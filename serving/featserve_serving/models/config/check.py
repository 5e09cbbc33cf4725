"""The models of a `ModelServerConfig`, checked as TensorFlow Serving checks them.

Reference: tensorflow_serving/model_servers/server_core.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import InvalidArgument, SetupError
from ...protos.generated import model_server_config_pb2
from ..paths import local_path

PLATFORM = "tensorflow"


def models_by_name(config: Any, serving: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `ModelConfig`s by name.

    Args:
        config: the `ModelServerConfig`.
        serving: the `ModelConfig`s that it takes the place of, by name.

    Raises:
        InvalidArgument: the configuration contradicts itself or the models that are served, or asks for a platform that
            the server lacks.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument("Invalid ServerModelConfig")
    models: dict[str, Any] = {}
    for model in config.model_config_list.config:
        if model.name in models:
            raise InvalidArgument(f"Illegal to list model {model.name} multiple times in config list")
        if not model.name:
            raise InvalidArgument("A model in the config list has no name")
        models[model.name] = model
    for name, model in models.items():
        try:
            path = local_path(model.base_path)
        except SetupError as exc:
            raise InvalidArgument(f"model {name}: {exc}") from exc
        if not path.is_absolute():
            raise InvalidArgument(
                f"Expected model {name} to have an absolute path or URI; got base_path()={model.base_path}"
            )
    platforms = {name: _platform(model) for name, model in models.items()}
    for name, platform in platforms.items():
        before = _platform(serving[name]) if name in serving else platform
        if platform != before:
            raise InvalidArgument(
                f"Illegal to change a model's platform. For model {name} platform was {before} and new platform "
                f"requested is {platform}"
            )
    for name, platform in platforms.items():
        if platform != PLATFORM:
            raise InvalidArgument(f"Model {name} requests unsupported platform {platform}")
    return models


def _platform(model: Any) -> str:
    if model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if not model.model_platform:
            raise InvalidArgument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                f"ModelServerConfig::model_platform, model name is {model.name}"
            )
        return str(model.model_platform)
    if model.model_platform:
        raise InvalidArgument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform, "
            f"model name is {model.name}"
        )
    if model.model_type != model_server_config_pb2.TENSORFLOW:
        raise InvalidArgument(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    return PLATFORM
