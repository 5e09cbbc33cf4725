"""Loads a network of the user's own: a Keras file, or the directory of a SavedModel."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ..backbones import find_backbone
from ..errors import InvalidOptionError, WeightsError
from ..options import MODEL_SUFFIXES, ExportOptions
from .activations import Activation, Place, find_activations, flatten, graph_of, output_names
from .keras_file import first_sentences, load_keras_file
from .live_model import ImageInput, LiveModel, needs_only, weights_hash

_SIGNATURE = "serving_default"
_CHANNELS = (3, 1)
# Reference: tf.name_scope, which every layer enters by its name.
_SCOPE = re.compile(r"[A-Za-z0-9_.\\/>-]*")


def load_own_model(options: ExportOptions) -> LiveModel:
    """Loads the model file that the options name.

    Raises:
        InvalidOptionError: the model takes something else than one image, or an option does not fit it.
        WeightsError: the file cannot be loaded.
    """
    path = Path(options.backbone)
    model = load_network(path, custom_objects=options.custom_objects, allow_lambda=options.allow_lambda)
    selection = find_activations(options.layers, model) if options.layers else None
    source, outputs = _image_input(model, selection, options.image_size, path)
    _check_outputs(model, selection)
    _check_names(model, path)
    if options.pooling != "none" and source.channels_first:
        raise InvalidOptionError(
            f"expected --pooling none with {path}, whose images are channels first, received {options.pooling}: "
            "output a pooling layer of the network instead"
        )
    preprocess, preprocessing = _preprocessing(options.preprocess or "none")
    return LiveModel(
        model=model,
        outputs=outputs,
        selection=selection,
        pooling=options.pooling,
        name=path.stem,
        family="own",
        preprocess=preprocess,
        preprocessing=preprocessing,
        input=source,
        interpolation="nearest",
        weights={"source": "file", "name": path.name, "sha256": weights_hash(model)},
    )


def load_network(path: Path, *, custom_objects: str | Path | None = None, allow_lambda: bool = False) -> keras.Model:
    """Loads the network of a file or directory as a Keras model.

    Raises:
        InvalidOptionError: there is something else at `path`, or the custom objects cannot be used.
        WeightsError: the model cannot be loaded.
    """
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return _saved_model(path)
    if path.suffix not in MODEL_SUFFIXES or path.is_dir():
        raise WeightsError(
            f"expected a .keras or .h5 file or the directory of a SavedModel, received {path}; models of other "
            "frameworks are exported from a SavedModel that their converter writes"
        )
    return load_keras_file(path, custom_objects=custom_objects, allow_lambda=allow_lambda)


def _saved_model(path: Path) -> keras.Model:
    """Wraps the signature of a SavedModel, of which Keras knows no layers."""
    try:
        signatures = tf.saved_model.load(str(path)).signatures
    except Exception as error:  # whatever TensorFlow raises over a damaged directory
        raise WeightsError(f"expected a SavedModel in {path}, received: {first_sentences(error)}") from error
    if _SIGNATURE not in signatures:
        raise WeightsError(
            f"expected a SavedModel with the signature {_SIGNATURE} in {path}, received "
            f"{', '.join(signatures) or 'none'}; "
            "write it with Keras' model.export(DIRECTORY)"
        )
    inputs = signatures[_SIGNATURE].structured_input_signature[1]
    if len(inputs) != 1:
        raise InvalidOptionError(f"expected a SavedModel of one input in {path}, received {', '.join(inputs)}")
    (spec,) = inputs.values()
    if spec.dtype != tf.float32 or spec.shape.rank != 4:
        raise InvalidOptionError(
            f"expected a SavedModel that takes float32 images (batch, height, width, channels) in {path}, received "
            f"{spec.dtype.name} {spec.shape}; export the Keras model that it was written from"
        )
    images = keras.Input(tuple(spec.shape[1:]))
    layer = keras.layers.TFSMLayer(str(path), call_endpoint=_SIGNATURE, name="saved_model")
    outputs = layer(images)
    if isinstance(outputs, dict):
        # A SavedModel knows no order of its outputs.
        outputs = {name: outputs[name] for name in sorted(outputs)}
    return keras.Model(images, outputs, name=path.name)


def _image_input(
    model: keras.Model, selection: Sequence[Activation] | None, image_size: tuple[int, int] | None, path: Path
) -> tuple[ImageInput, dict[Place, str]]:
    graph = graph_of(model)
    if graph is None:
        return _input_of_code(model, image_size, path)
    shapes = [tuple(tensor.shape) for tensor in graph.inputs]
    candidates = [index for index, shape in enumerate(shapes) if _channels(shape)]
    if not candidates:
        raise InvalidOptionError(
            "expected a model with an input of RGB or gray images, (batch, height, width, 3 or 1), received "
            f"{_shapes_text(shapes)} in {path}"
        )
    wanted = [it.in_outermost_graph() for it in selection] if selection else graph.outputs
    able = [index for index in candidates if len(shapes) == 1 or needs_only(graph.inputs[index], wanted)]
    if len(able) != 1:
        raise InvalidOptionError(
            f"expected outputs that need one image and nothing else, received {path} with the inputs "
            f"{', '.join(tensor.name for tensor in graph.inputs)}: choose outputs that only the image reaches with "
            "--layers; featserve-export --show-layers lists all"
        )
    (index,) = able
    others = tuple(tuple(side or 1 for side in shape[1:]) for place, shape in enumerate(shapes) if place != index)
    return _checked(shapes[index], image_size, path, index=index, others=others), output_names(model)


def _input_of_code(
    model: keras.Model, image_size: tuple[int, int] | None, path: Path
) -> tuple[ImageInput, dict[Place, str]]:
    """The input of a model whose calls are Python code: what it was built with."""
    built = (model.get_build_config() or {}).get("input_shape")
    shape = tuple(built) if isinstance(built, (list, tuple)) else ()
    if len(shape) != 4 or not _channels(shape):
        raise InvalidOptionError(
            "expected a model that was built with images of (batch, height, width, 3 or 1), received "
            f"{shape or 'no shape'} in {path}; call it once on such a batch before it is saved"
        )
    source = _checked(shape, image_size, path)
    spec = flatten(model.compute_output_spec(keras.KerasTensor((None, *_layout(source)))))
    names = {place: "/".join(["output", *map(str, place)]) if place else "output" for place in spec}
    keyed = {place: "/".join(map(str, place)) for place in spec if any(isinstance(key, str) for key in place)}
    return source, {**names, **keyed}


def _layout(source: ImageInput) -> tuple[int, int, int]:
    height, width = source.image_size
    return (source.channels, height, width) if source.channels_first else (height, width, source.channels)


def _channels(shape: Sequence[int | None]) -> int | None:
    """How many channels images of a shape have; None where a shape is no image's."""
    if len(shape) != 4:
        return None
    return next((side for side in (shape[3], shape[1]) if side in _CHANNELS), None)


def _checked(
    shape: Sequence[int | None],
    image_size: tuple[int, int] | None,
    path: Path,
    *,
    index: int = 0,
    others: tuple[tuple[int, ...], ...] = (),
) -> ImageInput:
    channels = _channels(shape) or 0
    channels_first = shape[3] not in _CHANNELS
    own = shape[2:] if channels_first else shape[1:3]
    height, width = image_size or own
    if height is None or width is None:
        raise InvalidOptionError(f"{path} takes images of any size; choose one with --image-size HxW")
    if own[0] not in (None, height) or own[1] not in (None, width):
        raise InvalidOptionError(f"expected --image-size {own[0]}x{own[1]} for {path}, received {height}x{width}")
    return ImageInput(
        index=index, image_size=(height, width), channels=channels, channels_first=channels_first, others=others
    )


def _check_outputs(model: keras.Model, selection: Sequence[Activation] | None) -> None:
    graph = graph_of(model)
    tensors = [it.tensor for it in selection] if selection else [] if graph is None else graph.outputs
    names = [it.name for it in selection] if selection else list(output_names(model).values()) if graph else []
    for name, tensor in zip(names, tensors, strict=True):
        if not tensor.shape or tensor.shape[0] is not None:
            raise InvalidOptionError(
                f"expected outputs with a row for each image, received {name} of shape {tuple(tensor.shape)}"
            )


def _check_names(model: keras.Model, path: Path) -> None:
    for operation in (model, *(graph_of(model) or model)._flatten_layers(include_self=False)):
        if not _SCOPE.fullmatch(operation.name):
            raise InvalidOptionError(
                f"expected names of letters, digits, '_', '.' and '-' in {path}, received a "
                f"{type(operation).__name__} named {operation.name!r}, on which Keras' own predict fails; rename it "
                "(layer.name = …) and save again"
            )


def _shapes_text(shapes: Sequence[Sequence[int | None]]) -> str:
    return ", ".join(str(tuple(shape)) for shape in shapes)


def _preprocessing(name: str) -> tuple[Callable[[Any], Any], str]:
    if name == "none":
        return _identity, "none"
    backbone = find_backbone(name)
    return backbone.preprocess_input, f"{backbone.preprocessing}.preprocess_input"


def _identity(images: Any) -> Any:
    return images
