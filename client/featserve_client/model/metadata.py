"""What a served model offers, and which of its signatures fits an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from ..exceptions import InvalidRequest, ResponseError
from ..images.inputs import Kind
from ..wire import serving_pb2 as wire
from ..wire.tensors import dtype_name

BASES: dict[Kind, str] = {"encoded": "encoded", "uint8": "serving_default", "float": "float_images"}
_DTYPES: dict[Kind, str] = {"encoded": "string", "uint8": "uint8", "float": "float32"}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output: numpy's dtype name (or `string`), and its shape; None where a size, or the rank, is open."""

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        """As `float32 (N, 7, 7, 512)`."""
        if self.shape is None:
            return f"{self.dtype} of any shape"
        sizes = ["N" if size is None else str(size) for size in self.shape]
        return f"{self.dtype} ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One of a model's signatures."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """What the server says of a model; `manifest` is what the exporter wrote of it, None for other models."""

    model: str
    version: int
    signatures: Mapping[str, Signature]
    manifest: Mapping[str, Any] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers `extract` can give, in the order of the network where that is known."""
        found = {layer for base in BASES.values() if base in self.signatures for layer in self.signatures[base].outputs}
        order = list(self.manifest["layers"]) if self.manifest else []
        return tuple(sorted(found, key=lambda layer: (order.index(layer) if layer in order else len(order), layer)))


@dataclass(frozen=True)
class Choice:
    """The signature that answers a request for layers of one kind of image."""

    signature: str
    input: str
    input_spec: TensorSpec
    layers: Mapping[str, TensorSpec]
    output_filter: tuple[str, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of the answer for one image, as far as the shapes are known."""
        shapes = [spec.shape or () for spec in self.layers.values()]
        return sum(4 * math.prod(size or 1 for size in shape[1:]) for shape in shapes)


def choose(model: ModelMetadata, kind: Kind, layers: Sequence[str] | None) -> Choice:
    """Return the signature to ask.

    Raises:
        InvalidRequest: The model takes no such images, or has no such layer; the text lists what there is.
    """
    base = BASES[kind]
    signature = model.signatures.get(base)
    specs = list(signature.inputs.items()) if signature else []
    if signature is None or len(specs) != 1 or specs[0][1].dtype != _DTYPES[kind]:
        wanted = {"encoded": "encoded images", "uint8": "uint8 images", "float": "float32 images"}[kind]
        raise InvalidRequest(
            f"model {model.model!r} has no signature {base!r} that takes {wanted}; it has {describe(model)}. "
            "Other models are asked with predict",
            model=model.model,
        )
    for layer in layers or ():
        if layer not in signature.outputs:
            has = ", ".join(model.layers)
            raise InvalidRequest(f"model {model.model!r} has no layer {layer!r}; it has {has}", model=model.model)
    chosen = list(signature.outputs) if layers is None else list(layers)
    name, output_filter = base, tuple(chosen)
    if len(chosen) == 1 and f"{base}/{chosen[0]}" in model.signatures:
        name, output_filter = f"{base}/{chosen[0]}", ()
    elif set(chosen) == set(signature.outputs):
        output_filter = ()
    return Choice(name, specs[0][0], specs[0][1], {layer: signature.outputs[layer] for layer in chosen}, output_filter)


def describe(model: ModelMetadata) -> str:
    """Return the signatures in one line."""
    parts = []
    for name, signature in sorted(model.signatures.items()):
        inputs = ", ".join(f"{key}: {spec}" for key, spec in signature.inputs.items())
        parts.append(f"{name}({inputs})")
    return ", ".join(parts) or "no signatures"


def parse_metadata(raw: bytes) -> ModelMetadata:
    """Return a GetModelMetadataResponse as data.

    Raises:
        ResponseError: It cannot be read.
    """
    try:
        answer = wire.GetModelMetadataResponse.FromString(raw)
        found = wire.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
    except DecodeError as exc:
        raise ResponseError(f"the server's model metadata cannot be read: {exc}") from exc
    signatures = {
        name: Signature(
            inputs={key: _spec(info) for key, info in sorted(signature.inputs.items())},
            outputs={key: _spec(info) for key, info in sorted(signature.outputs.items())},
        )
        for name, signature in sorted(found.signature_def.items())
        if not name.startswith("__saved_model")
    }
    return ModelMetadata(model=answer.model_spec.name, version=answer.model_spec.version.value, signatures=signatures)


def _spec(info: wire.TensorInfo) -> TensorSpec:
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
    return TensorSpec(dtype=dtype_name(info.dtype), shape=sizes)
