"""Which signature of a model answers for an image and the layers wanted of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..exceptions import InvalidRequest
from .metadata import ModelMetadata, TensorSpec
from .signatures import IMAGE_SIGNATURES, InputKind


@dataclass(frozen=True)
class SelectedSignature:
    """The signature to ask for layers of one kind of image, and the outputs to ask it for (all if empty)."""

    name: str
    input: str
    input_spec: TensorSpec
    layers: Mapping[str, TensorSpec]
    output_filter: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of the answer for one image, as far as the shapes are known."""
        shapes = [spec.shape or () for spec in self.layers.values()]
        return sum(4 * math.prod(size or 1 for size in shape[1:]) for shape in shapes)


def select_signature(model: ModelMetadata, kind: InputKind, layers: Sequence[str] | None) -> SelectedSignature:
    """Returns the signature to ask; a single layer is asked of its own signature, which computes no other layer.

    Raises:
        InvalidRequest: the model takes no such images, or has no such layer; the text lists its signatures or layers.
    """
    wanted = IMAGE_SIGNATURES[kind]
    signature = model.signatures.get(wanted.name)
    inputs = list(signature.inputs.items()) if signature else []
    if signature is None or len(inputs) != 1 or inputs[0][1].dtype != wanted.dtype:
        images = "encoded images" if kind == "encoded" else f"{wanted.dtype} images"
        raise InvalidRequest(
            f"model {model.model!r} has no signature {wanted.name!r} that takes {images}; it has "
            f"{model.describe_signatures()}. Other models are asked with predict",
            model=model.model,
        )
    check_has_layers(model, layers, signature.outputs)
    chosen = list(signature.outputs) if layers is None else list(layers)
    name, output_filter = wanted.name, tuple(chosen)
    if len(chosen) == 1 and wanted.alone(chosen[0]) in model.signatures:
        name, output_filter = wanted.alone(chosen[0]), ()
    elif set(chosen) == set(signature.outputs):
        output_filter = ()
    (input_name, input_spec) = inputs[0]
    return SelectedSignature(
        name, input_name, input_spec, {layer: signature.outputs[layer] for layer in chosen}, output_filter
    )


def check_has_layers(model: ModelMetadata, layers: Sequence[str] | None, offered: Mapping[str, object]) -> None:
    """Refuses a layer that is not offered.

    Raises:
        InvalidRequest: a layer is not offered; the text lists the layers of the model.
    """
    for layer in layers or ():
        if layer not in offered:
            raise InvalidRequest(
                f"model {model.model!r} has no layer {layer!r}; it has {', '.join(model.layers)}", model=model.model
            )
