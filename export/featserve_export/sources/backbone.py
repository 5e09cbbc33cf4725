"""Builds a backbone of the table as a live Keras model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keras

from ..backbones import Backbone, find_backbone
from ..errors import InvalidOptionError, WeightsError
from ..manifest import WeightsOrigin
from ..options import ExportOptions
from .activations import find_activations, list_activations, output_names
from .live_model import ImageInput, LiveModel, weights_hash
from .weights import copy_weights, load_weights

_RANDOM_SEED = 0
_DAMPED_GAMMA = 0.2


def build_backbone(options: ExportOptions) -> LiveModel:
    """Builds the backbone that the options name.

    Raises:
        InvalidOptionError: an option does not fit the backbone.
        WeightsError: the weights are missing or of another architecture.
    """
    backbone = find_backbone(options.backbone)
    model = _without_or_with_classifier(backbone, options)
    return LiveModel(
        model=model,
        outputs=output_names(model),
        selection=find_activations(options.layers, model) if options.layers else None,
        pooling=options.pooling,
        name=backbone.name,
        family=backbone.family,
        preprocess=backbone.preprocess_input,
        preprocessing=f"{backbone.preprocessing}.preprocess_input",
        input=ImageInput(image_size=options.image_size or backbone.image_size),
        interpolation=backbone.interpolation,
        weights=_weights_origin(backbone, options.weights, model),
    )


def build_untrained(backbone: Backbone, image_size: tuple[int, int] | None, alpha: float | None) -> keras.Model:
    """The whole network, its classifier included, with random weights."""
    return _build(backbone, include_top=True, weights=None, **_arguments(backbone, image_size, alpha))


def build_with_classifier(
    backbone: Backbone, weights: str, image_size: tuple[int, int], alpha: float | None
) -> keras.Model:
    """The whole network, its classifier included, with the given weights.

    Args:
        backbone: its record.
        weights: `imagenet` or the path of a weights file.
        image_size: `(height, width)` in pixels.
        alpha: width multiplier of the MobileNets.

    Raises:
        InvalidOptionError: the classifier takes another size.
        WeightsError: the weights are missing or lack the classifier.
    """
    arguments = _arguments(backbone, image_size, alpha)
    if weights == "imagenet":
        return _build(backbone, include_top=True, weights="imagenet", **arguments)
    model = _build(backbone, include_top=True, weights=None, **arguments)
    load_weights(Path(weights), model, backbone.name)
    return model


def _without_or_with_classifier(backbone: Backbone, options: ExportOptions) -> keras.Model:
    arguments = _arguments(backbone, options.image_size, options.alpha)
    model = _build(backbone, include_top=False, weights=None, **arguments)
    include_top = not set(options.layers or ()) <= set(list_activations(model))
    if include_top:
        model = _build(backbone, include_top=True, weights=None, **arguments)
        find_activations(options.layers or (), model)  # before a download
    if options.weights == "imagenet":
        return _build(backbone, include_top=include_top, weights="imagenet", **arguments)
    if options.weights == "random":
        _damp_residuals(model)
        return model
    path = Path(options.weights)
    try:
        load_weights(path, model, backbone.name)
    except WeightsError:
        if include_top or not path.is_file():
            raise
        # A weights file of the whole network serves its feature maps as well.
        try:
            whole = _build(backbone, include_top=True, weights=None, **arguments)
            load_weights(path, whole, backbone.name)
        except (WeightsError, InvalidOptionError):
            pass
        else:
            copy_weights(whole, model)
            return model
        raise
    return model


def _arguments(backbone: Backbone, image_size: tuple[int, int] | None, alpha: float | None) -> dict[str, Any]:
    width = {} if alpha is None else {"alpha": alpha}
    return {"input_shape": (*(image_size or backbone.image_size), 3), **width}


def _weights_origin(backbone: Backbone, weights: str, model: keras.Model) -> WeightsOrigin:
    source, name = "file", Path(weights).name
    if weights == "imagenet" and backbone.weights_file is not None:
        source, name = "package", backbone.weights_file
    elif weights in ("imagenet", "random"):
        return {"source": weights, "name": None, "sha256": weights_hash(model)}
    return {"source": source, "name": name, "sha256": weights_hash(model)}


def _damp_residuals(model: keras.Model) -> None:
    """Makes the residual branches of a random EfficientNet small.

    Undamped they amplify rounding, until Keras' own `predict` and call differ (EfficientNetV2-M: cosine 0.83).
    """
    layers = {layer.name: layer for layer in model.layers}
    for name, layer in layers.items():
        if name.endswith("_project_bn") and name.replace("_project_bn", "_add") in layers:
            layer.gamma.assign(keras.ops.full(layer.gamma.shape, _DAMPED_GAMMA))


def _build(backbone: Backbone, **arguments: Any) -> keras.Model:
    # Keras numbers unnamed layers through a process; a layer's name must not depend on what was built before.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(_RANDOM_SEED)
    try:
        return backbone.build(**arguments)
    except WeightsError:
        raise
    except (ValueError, TypeError) as error:
        raise InvalidOptionError(f"{backbone.name}: {error}") from error
    except Exception as error:  # Keras' download raises a bare Exception
        reason = str(error).replace("URL fetch failure on ", "cannot download ")
        raise WeightsError(
            f"no ImageNet weights for {backbone.name}: {reason}; put the file into {_weights_cache()} "
            "or name it with --weights FILE, or export with --weights random"
        ) from error


def _weights_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
