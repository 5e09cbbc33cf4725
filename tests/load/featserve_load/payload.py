"""Requests, serialized once: the generator only sends bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from featserve_client import FeatureClient, ModelMetadata
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire.tensors import encode_predict_request, encode_strings, encode_tensor

from . import photos
from .errors import LoadError

Input = Literal["encoded", "uint8", "float"]
SIGNATURES: dict[Input, str] = {"encoded": "encoded", "uint8": "serving_default", "float": "float_images"}
PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclass(frozen=True, kw_only=True)
class Payload:
    """Serialized PredictRequests of one kind."""

    model: str
    signature: str
    input: Input
    images_per_request: int
    requests: list[bytes]

    @property
    def mean_bytes(self) -> float:
        """Bytes of a request."""
        return float(np.mean([len(request) for request in self.requests]))

    def together(self, count: int) -> list[bytes]:
        """Returns requests that each hold the files of `count`, in order; none where the input is no files."""
        if self.input != "encoded" or count < 2:
            return []
        ends = range(count, len(self.requests) + 1, count)
        return [_joined(self.requests[end - count : end]) for end in ends]


def describe(target: str, model: str, timeout_s: float = 10.0) -> ModelMetadata:
    """Returns the model's metadata, or says why it cannot be measured."""
    with FeatureClient(target, model=model, timeout_s=timeout_s) as client:
        return client.metadata()


def make(
    metadata: ModelMetadata,
    model: str,
    *,
    input: Input = "encoded",
    layer: str | None = None,
    images_per_request: int = 1,
    folder: Path | None = None,
    encoded: Sequence[bytes] | None = None,
) -> Payload:
    """Returns requests that cycle through the photos."""
    base = SIGNATURES[input]
    if base not in metadata.signatures:
        raise LoadError(f"model {model!r} has no signature {base!r}; it has {', '.join(sorted(metadata.signatures))}")
    if layer is not None and layer not in metadata.layers:
        raise LoadError(f"model {model!r} has no layer {layer!r}; it has {', '.join(metadata.layers)}")
    own = f"{base}/{layer}"
    signature = own if layer and own in metadata.signatures else base
    outputs = [layer] if layer and signature == base and metadata.layers != (layer,) else []
    files = list(encoded) if encoded is not None else photos.files(folder)
    items: list[Any] = list(files)
    if input != "encoded":
        items = list(photos.pixels(files, network_size(metadata)))
    spec = wire.ModelSpec(name=model, signature_name=signature)
    [name] = metadata.signatures[signature].inputs
    requests = []
    for start in range(len(items)):
        chosen = [items[(start + offset) % len(items)] for offset in range(images_per_request)]
        requests.append(encode_predict_request(spec, {name: _tensor(chosen, input)}, outputs))
    return Payload(
        model=model, signature=signature, input=input, images_per_request=images_per_request, requests=requests
    )


def _joined(requests: Sequence[bytes]) -> bytes:
    first, *others = [wire.PredictRequest.FromString(request) for request in requests]
    [name] = first.inputs
    files = [file for request in (first, *others) for file in request.inputs[name].string_val]
    return encode_predict_request(first.model_spec, {name: _tensor(files, "encoded")}, list(first.output_filter))


def network_size(metadata: ModelMetadata) -> tuple[int, int]:
    """Returns the `(height, width)` that the backbone takes, in pixels."""
    if metadata.manifest:
        height, width = metadata.manifest["preprocessing"]["image_size"]
        return int(height), int(width)
    signature = metadata.signatures.get("float_images")
    for spec in signature.inputs.values() if signature else ():
        if spec.shape and len(spec.shape) == 4 and spec.shape[1] and spec.shape[2]:
            return spec.shape[1], spec.shape[2]
    return 224, 224


def _tensor(chosen: Sequence[Any], input: Input) -> Any:
    if input == "encoded":
        return encode_strings(chosen, (len(chosen),))
    stacked: npt.NDArray[Any] = np.stack(chosen)
    return encode_tensor(stacked.astype(np.float32) if input == "float" else stacked)
