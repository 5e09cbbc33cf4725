"""Whole models that Keras 2 wrote as `.h5`, in the terms of Keras 3."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import tensorflow as tf

# Keys that layers of Keras 2 wrote and those of Keras 3 refuse, by the class.
_DROPPED: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("DepthwiseConv1D", "DepthwiseConv2D", "SeparableConv1D", "SeparableConv2D"),
    ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint"),
)
_CONSTANT = "_CONSTANT_VALUE"
_DROPPED_OF_RANDOM_LAYERS = ("rng_type",)
# TensorFlow's operations that a Keras 2 graph may call by name. Others, such as those that write files, are refused.
_OPERATIONS = ("math.", "nn.", "image.", "linalg.", "keras.activations.", "keras.backend.", "__operators__.")
_PLAIN_OPERATIONS = frozenset(
    "cast clip_by_value concat convert_to_tensor expand_dims identity reshape reverse split squeeze stack tile "
    "transpose unstack pad shape compat.v1.shape compat.v1.transpose broadcast_to zeros_like ones_like gather "
    "where strided_slice slice unravel_index".split()
)


@contextmanager
def as_keras3(path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Opens an `.h5` model so that Keras 3 loads it.

    Args:
        path: what Keras 2 or 3 wrote with `model.save`.

    Yields:
        The file for `keras.models.load_model`, and the custom objects that go with it.
    """
    with h5py.File(path) as file:
        text = file.attrs.get("model_config", "{}")
        text = text.decode() if isinstance(text, bytes) else text
        version = file.attrs.get("keras_version", "2")
        version = version.decode() if isinstance(version, bytes) else str(version)
    if not version.startswith("2"):
        yield path, {}
        return
    config = _mend(json.loads(text))
    with tempfile.TemporaryDirectory() as folder:
        mended = Path(folder) / "mended.h5"
        shutil.copyfile(path, mended)
        with h5py.File(mended, "r+") as file:
            file.attrs["model_config"] = json.dumps(config)
        yield mended, _legacy_objects()


def _mend(value: Any) -> Any:
    if isinstance(value, list):
        return [_mend(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {key: _mend(item) for key, item in value.items()}
    config = value.get("config")
    if isinstance(config, dict) and "class_name" in value:
        _mend_layer(value, config)
    if "layers" in value and isinstance(value["layers"], list):
        _mend_graph(value)
        if value["layers"] and value["layers"][0].get("class_name") == "InputLayer":
            for layer in value["layers"][1:]:
                # Keras 3 warns of a shape that the input layer has as well.
                if layer.get("class_name") != "InputLayer":
                    layer.get("config", {}).pop("batch_input_shape", None)
    return value


def _mend_layer(layer: dict[str, Any], config: dict[str, Any]) -> None:
    name = str(layer["class_name"])
    dropped = _DROPPED.get(name, ())
    if config.get("groups", 1) != 1:
        dropped = tuple(key for key in dropped if key != "groups")
    for key in (*dropped, *_DROPPED_OF_RANDOM_LAYERS):
        config.pop(key, None)
    if name.endswith("BatchNormalization") and isinstance(config.get("axis"), list) and len(config["axis"]) == 1:
        (config["axis"],) = config["axis"]
    dtype = config.get("dtype")
    if isinstance(dtype, dict) and str(dtype.get("class_name", "")).startswith("Policy"):
        config["dtype"] = {
            "module": "keras",
            "class_name": "DTypePolicy",
            "config": {"name": dtype["config"]["name"]},
            "registered_name": None,
        }


def _mend_graph(config: dict[str, Any]) -> None:
    nested = {layer["config"]["name"]: layer["class_name"] for layer in config["layers"] if "layers" in layer["config"]}
    for layer in config["layers"]:
        nodes = [_mend_node(node) for node in layer.get("inbound_nodes", [])]
        # A nested model's own graph was the first call of it in Keras 2.
        layer["inbound_nodes"] = [
            [[name, call - (call > 0 and name in nested), *rest] for name, call, *rest in node] for node in nodes
        ]
    outputs = config.get("output_layers", [])
    for tensor in outputs.values() if isinstance(outputs, dict) else outputs:
        if nested.get(tensor[0]) == "Sequential" and tensor[1] > 0:
            tensor[1] -= 1
    for key in ("input_layers", "output_layers"):
        # A list of one stands for the tensor itself in Keras 2.
        if isinstance(config.get(key), list) and len(config[key]) == 1 and isinstance(config[key][0], list):
            (config[key],) = config[key]
    # Keras 3 takes no `/` in layers' names.
    names = {
        name: name.replace("/", "_")
        for name in (str(layer.get("config", {}).get("name", "")) for layer in config["layers"])
        if "/" in name
    }
    for key in ("layers", "input_layers", "output_layers"):
        if names and key in config:
            config[key] = _renamed(config[key], names)


def _mend_node(node: Any) -> Any:
    """Writes a call of an operation, `[layer, call, tensor, keywords]`, as the list of tensors that Keras 3 reads."""
    if not (isinstance(node, list) and node and isinstance(node[0], str)):
        return node
    name, call, tensor, *rest = node
    keywords = dict(rest[0]) if rest else {}
    tensors = {key: value for key, value in keywords.items() if _is_tensor(value)}
    options = {key: value for key, value in keywords.items() if key not in tensors}
    options["tensor_keywords"] = list(tensors)
    inputs = [[*value[:3]] for value in tensors.values()]
    if name == _CONSTANT:
        options["constant"] = tensor
    else:
        inputs.insert(0, [name, call, tensor])
    inputs[-1].append(options)
    return inputs


def _is_tensor(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (3, 4) and isinstance(value[0], str) and value[0] != _CONSTANT


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    return names.get(value, value) if isinstance(value, str) else value


def _legacy_objects() -> dict[str, Any]:
    from keras.src.applications.convnext import LayerScale
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
    from keras.src.layers.regularization.dropout import Dropout

    return {
        "LayerScale": LayerScale,
        "CustomScaleLayer": CustomScaleLayer,
        "Custom>CustomScaleLayer": CustomScaleLayer,
        "FixedDropout": Dropout,
        "TFOpLambda": _TensorFlowOperation,
        "SlicingOpLambda": _TensorFlowOperation,
    }


class _TensorFlowOperation(keras.layers.Layer):  # type: ignore[misc]
    """A TensorFlow function that a Keras 2 model called between layers, such as those of `preprocess_input`."""

    def __init__(self, function: str, **options: Any) -> None:
        options.pop("activity_regularizer", None)
        super().__init__(**options)
        if not (function.startswith(_OPERATIONS) or function in _PLAIN_OPERATIONS):
            raise ValueError(f"an operation between its layers, tf.{function}, which no file may call here")
        self.function = function

    def call(self, inputs: Any, tensor_keywords: Sequence[str] = (), constant: Any = None, **options: Any) -> Any:
        tensors = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        first, rest = tensors[: len(tensors) - len(tensor_keywords)], tensors[len(tensors) - len(tensor_keywords) :]
        options.update(zip(tensor_keywords, rest, strict=True))
        argument: Any = constant if not first else first[0] if len(first) == 1 else first
        if self.function == "__operators__.getitem":
            return argument[_slices(options["slice_spec"])]
        function: Any = tf
        for part in self.function.split("."):
            function = getattr(function, part)
        options.pop("name", None)
        return function(argument, **options)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "function": self.function}


def _slices(spec: Any) -> tuple[Any, ...]:
    return tuple(_slice(part) for part in (spec if isinstance(spec, (list, tuple)) else (spec,)))


def _slice(part: Any) -> Any:
    if isinstance(part, dict):
        if part.get("class_name") == "__ellipsis__":
            return Ellipsis
        return slice(part.get("start"), part.get("stop"), part.get("step"))
    return part
