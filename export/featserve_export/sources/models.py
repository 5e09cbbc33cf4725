"""Builds the live Keras model: a backbone of the table or a model file, with the asked for layers as outputs."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .backbones import BACKBONES, Backbone, closest, find_backbone
from ..errors import InvalidOptionError, WeightsError

POOLINGS = ("none", "avg", "max")
MODEL_SUFFIXES = (".keras", ".h5", ".hdf5")
_RANDOM_SEED = 0
_DAMPED_GAMMA = 0.2
# What Keras, h5py and zipfile raise over a file that is damaged or of another architecture.
_LOADING_ERRORS = (ValueError, OSError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile)


@dataclass(frozen=True, kw_only=True)
class LiveModel:
    """A Keras model whose outputs are the layers to export.

    Attributes:
        model: takes preprocessed `(batch, height, width, 3)` float32.
        layers: the outputs' names, in order.
        name: the backbone's name or the file's stem.
        family: of the backbone, or `own`.
        preprocess: maps RGB float32 0..255 to the model's input.
        preprocessing: the name of that function.
        image_size: `(height, width)` in pixels.
        interpolation: the default resize.
        weights: source, name and sha256 of the weights' values.
    """

    model: keras.Model
    layers: tuple[str, ...]
    name: str
    family: str
    preprocess: Callable[[Any], Any]
    preprocessing: str
    image_size: tuple[int, int]
    interpolation: str
    weights: dict[str, str | None]


def load_live_model(
    backbone: str,
    *,
    layers: Sequence[str] | None = None,
    pooling: str = "none",
    weights: str = "imagenet",
    alpha: float | None = None,
    image_size: tuple[int, int] | None = None,
    preprocess: str | None = None,
) -> LiveModel:
    """Builds a backbone by name, or loads a Keras model by path.

    Args:
        backbone: a name of `list_backbones`, or the path of a `.keras` or `.h5` model.
        layers: names of the layers to output; None for the last feature map (of a file: its outputs).
        pooling: `none`, `avg` or `max`, over height and width of 4-D outputs.
        weights: `imagenet`, `random` or the path of a weights file.
        alpha: width multiplier of the MobileNets.
        image_size: `(height, width)` in pixels; None for the network's own.
        preprocess: for a file: the backbone whose `preprocess_input` it was trained with, or `none`.

    Raises:
        InvalidOptionError: an option does not fit.
        WeightsError: the weights are missing or of another architecture.
    """
    if keras.backend.backend() != "tensorflow":
        raise InvalidOptionError(
            f"expected Keras on the tensorflow backend, received {keras.backend.backend()}; "
            "set KERAS_BACKEND=tensorflow"
        )
    if pooling not in POOLINGS:
        raise InvalidOptionError(f"expected pooling {', '.join(POOLINGS)}, received {pooling!r}")
    if len(set(layers or ())) != len(layers or ()):
        raise InvalidOptionError(f"expected each layer once, received {','.join(layers or ())}")
    if Path(backbone).suffix in MODEL_SUFFIXES:
        return _own_model(Path(backbone), layers, pooling, weights, alpha, image_size, preprocess)
    return _backbone_model(find_backbone(backbone), layers, pooling, weights, alpha, image_size, preprocess)


def build_untrained(backbone: Backbone, image_size: tuple[int, int] | None, alpha: float | None) -> keras.Model:
    """The whole network, its classifier included, with random weights."""
    arguments = _arguments(backbone, image_size, alpha)
    return _build(backbone, include_top=True, weights=None, **arguments)


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
    shape_only = _build(backbone, include_top=True, weights=None, **arguments)
    return _load_weights(backbone, Path(weights), shape_only, True, arguments)


def _arguments(backbone: Backbone, image_size: tuple[int, int] | None, alpha: float | None) -> dict[str, Any]:
    if alpha is not None and not backbone.has_alpha:
        raise InvalidOptionError(f"--alpha is for the MobileNets; {backbone.name} has one width")
    width = {} if alpha is None else {"alpha": alpha}
    return {"input_shape": (*(image_size or backbone.image_size), 3), **width}


def _backbone_model(
    backbone: Backbone,
    layers: Sequence[str] | None,
    pooling: str,
    weights: str,
    alpha: float | None,
    image_size: tuple[int, int] | None,
    preprocess: str | None,
) -> LiveModel:
    if preprocess is not None:
        raise InvalidOptionError(
            f"--preprocess is for a model of your own; {backbone.name} comes with {backbone.preprocessing}"
        )
    model, names = _with_layers(backbone, layers, weights, _arguments(backbone, image_size, alpha))
    return LiveModel(
        model=_select(model, names, pooling),
        layers=names,
        name=backbone.name,
        family=backbone.family,
        preprocess=backbone.preprocess_input,
        preprocessing=f"{backbone.preprocessing}.preprocess_input",
        image_size=image_size or backbone.image_size,
        interpolation=backbone.interpolation,
        weights={**_weights_origin(backbone, weights), "sha256": _weights_hash(model)},
    )


def _weights_origin(backbone: Backbone, weights: str) -> dict[str, str | None]:
    if weights == "imagenet" and backbone.weights_file is not None:
        return {"source": "package", "name": backbone.weights_file}
    if weights in ("imagenet", "random"):
        return {"source": weights, "name": None}
    return {"source": "file", "name": Path(weights).name}


def _with_layers(
    backbone: Backbone, layers: Sequence[str] | None, weights: str, arguments: dict[str, Any]
) -> tuple[keras.Model, tuple[str, ...]]:
    shape_only = _build(backbone, include_top=False, weights=None, **arguments)
    names = tuple(layers) if layers else (shape_only.layers[-1].name,)
    include_top = not set(names) <= {layer.name for layer in shape_only.layers}
    if include_top:
        shape_only = _build(backbone, include_top=True, weights=None, **arguments)
        _check_layers(names, shape_only)
    if weights == "random":
        model = _build(backbone, include_top=include_top, weights=None, **arguments)
        _damp_residuals(model)
        return model, names
    if weights == "imagenet":
        return _build(backbone, include_top=include_top, weights="imagenet", **arguments), names
    return _load_weights(backbone, Path(weights), shape_only, include_top, arguments), names


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


def _load_weights(
    backbone: Backbone, path: Path, model: keras.Model, include_top: bool, arguments: dict[str, Any]
) -> keras.Model:
    if not path.is_file():
        raise WeightsError(f"expected --weights imagenet, random or a file, received {str(path)!r}, which is not there")
    try:
        return _load_file(path, model)
    except _LOADING_ERRORS as error:
        reason = _first_line(error)
    if not include_top:
        try:
            # The file of a whole classifier serves its feature maps as well.
            return _load_file(path, _build(backbone, include_top=True, weights=None, **arguments))
        except (*_LOADING_ERRORS, InvalidOptionError):
            pass
    raise WeightsError(
        f"expected weights of {backbone.name} ({model.count_params()} parameters) in {path}, received {reason}; "
        "a file of another architecture or width cannot be used"
    )


def _load_file(path: Path, model: keras.Model) -> keras.Model:
    if path.suffix == ".keras":
        source = keras.models.load_model(path, compile=False)
        if [tuple(weight.shape) for weight in source.weights] != [tuple(weight.shape) for weight in model.weights]:
            raise ValueError(f"a model of {source.count_params()} parameters with other shapes")
        model.set_weights(source.get_weights())
    else:
        model.load_weights(path)
    return model


def _own_model(
    path: Path,
    layers: Sequence[str] | None,
    pooling: str,
    weights: str,
    alpha: float | None,
    image_size: tuple[int, int] | None,
    preprocess: str | None,
) -> LiveModel:
    if weights != "imagenet" or alpha is not None:
        raise InvalidOptionError(f"--weights and --alpha are for backbones; {path} comes with its own")
    if preprocess is None:
        raise InvalidOptionError(
            f"expected --preprocess with {path}: the backbone whose preprocess_input it was trained with "
            f"({', '.join(backbone.name for backbone in BACKBONES[:3])}, …), or none where it preprocesses itself"
        )
    preprocessing = "none" if preprocess == "none" else find_backbone(preprocess).preprocessing
    try:
        model = keras.models.load_model(path, compile=False)
    except _LOADING_ERRORS as error:
        raise WeightsError(f"expected a Keras model in {path}, received {_first_line(error)}") from error
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] != 3:
        raise InvalidOptionError(f"expected a model of one input (batch, height, width, 3), received {shape} in {path}")
    height, width = image_size or shape[1:3]
    if height is None or width is None:
        raise InvalidOptionError(f"{path} takes images of any size; choose one with --image-size HxW")
    if shape[1] not in (None, height) or shape[2] not in (None, width):
        raise InvalidOptionError(f"expected --image-size {shape[1]}x{shape[2]} for {path}, received {height}x{width}")
    names = tuple(layers) if layers else _output_layers(model)
    if not names:
        raise InvalidOptionError(f"expected outputs that are layers' in {path}, received operations; name --layers")
    _check_layers(names, model)
    return LiveModel(
        model=_select(model, names, pooling, (height, width, 3)),
        layers=names,
        name=path.stem,
        family="own",
        preprocess=_identity if preprocess == "none" else find_backbone(preprocess).preprocess_input,
        preprocessing=preprocessing if preprocess == "none" else f"{preprocessing}.preprocess_input",
        image_size=(height, width),
        interpolation="nearest",
        weights={"source": "file", "name": path.name, "sha256": _weights_hash(model)},
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _identity(images: Any) -> Any:
    return images


def _output_layers(model: keras.Model) -> tuple[str, ...]:
    outputs = {id(output) for output in model.outputs}
    return tuple(
        layer.name
        for layer in model.layers
        if any(id(tensor) in outputs for node in layer._inbound_nodes for tensor in node.outputs)
    )


def _check_layers(names: Sequence[str], model: keras.Model) -> None:
    known = {layer.name: layer.name for layer in model.layers}
    for name in names:
        if name not in known:
            raise InvalidOptionError(
                f"{model.name} has no layer {name!r}; {closest(name, known)}featserve-export --show-layers lists all"
            )


def _select(
    model: keras.Model, names: Sequence[str], pooling: str, input_shape: tuple[int, int, int] | None = None
) -> keras.Model:
    outputs = []
    for name in names:
        output = getattr(model.get_layer(name), "output", ())  # a layer that is called twice has none
        if isinstance(output, (list, tuple, dict)) or len(output.shape) < 2:
            raise InvalidOptionError(f"expected a layer with one output, received {name!r}")
        if pooling != "none" and len(output.shape) == 4:
            reduce = keras.ops.mean if pooling == "avg" else keras.ops.max
            output = reduce(output, axis=(1, 2))
        outputs.append(output)
    selected = keras.Model(model.inputs, outputs)
    if input_shape is not None and None in selected.input_shape[1:]:
        images = keras.Input(input_shape)
        selected = keras.Model(images, selected(images))
    return selected


def _weights_hash(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return digest.hexdigest()
