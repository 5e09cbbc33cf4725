"""A model as the server describes it: its signatures, versions and manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError

from ..exceptions import ResponseError
from ..wire import serving_pb2 as wire
from ..wire.tensors import dtype_name
from .manifest import Manifest
from .signatures import IMAGE_SIGNATURES


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output: numpy's dtype name (or `string`), and its shape; None where a size, or the rank, is open.

    Example:
        >>> str(TensorSpec(dtype="float32", shape=(None, 7, 7, 1280)))
        'float32 (N, 7, 7, 1280)'
    """

    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        """Returns dtype and shape as in `float32 (N, 7, 7, 512)`."""
        if self.shape is None:
            return f"{self.dtype} of any shape"
        # Open sizes are the batch's and, of images, height and width.
        names = "NHWC" if len(self.shape) == 4 else f"N{'?' * len(self.shape)}"
        sizes = [names[place] if size is None else str(size) for place, size in enumerate(self.shape)]
        return f"{self.dtype} ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One of a model's signatures.

    Example:
        >>> signature = client.metadata().signatures["encoded"]
        >>> signature.inputs
        {'image_bytes': TensorSpec(dtype='string', shape=(None,))}
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """A model as the server describes it; `manifest` is the exporter's, None for models from elsewhere.

    Example:
        >>> model = client.metadata()
        >>> model.version, model.layers
        (1, ('top_activation',))
        >>> model.manifest["preprocessing"]["interpolation"]
        'bicubic'
    """

    model: str
    version: int
    signatures: Mapping[str, Signature]
    manifest: Mapping[str, Any] | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers `extract` can give, in the order of the network where that is known."""
        found = {
            layer
            for signature in IMAGE_SIGNATURES.values()
            if signature.name in self.signatures
            for layer in self.signatures[signature.name].outputs
        }
        order = list(Manifest.parse(self.manifest).layers) if self.manifest else []
        return tuple(sorted(found, key=lambda layer: (order.index(layer) if layer in order else len(order), layer)))

    def describe_signatures(self) -> str:
        """Returns the signatures and their inputs in one line."""
        parts = []
        for name, signature in sorted(self.signatures.items()):
            inputs = ", ".join(f"{key}: {spec}" for key, spec in signature.inputs.items())
            parts.append(f"{name}({inputs})")
        return ", ".join(parts) or "no signatures"


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version of a model as the server reports it; `error` is empty while there is none.

    Example:
        >>> [(version.version, version.state) for version in client.status()]
        [(1, 'AVAILABLE')]
    """

    version: int
    state: str
    error: str
    #: When the version came into this state, in seconds since 1970; None from TensorFlow Serving, which does not tell.
    since: float | None = None
    #: The labels that name this version; None from TensorFlow Serving, which does not tell.
    labels: tuple[str, ...] | None = None

    @property
    def available(self) -> bool:
        """Whether this version answers requests."""
        return self.state == "AVAILABLE"


def parse_metadata(raw: bytes) -> ModelMetadata:
    """Returns a GetModelMetadataResponse as data.

    Raises:
        ResponseError: the bytes cannot be read.
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


def parse_status(raw: bytes) -> list[VersionStatus]:
    """Returns a GetModelStatusResponse as data, ascending by version.

    Raises:
        ResponseError: the bytes cannot be read.
    """
    try:
        answer = wire.GetModelStatusResponse.FromString(raw)
    except DecodeError as exc:
        raise ResponseError(f"the server's model status cannot be read: {exc}") from exc
    known = wire.ModelVersionStatus.State
    found = [
        VersionStatus(
            version=item.version,
            state=known.Name(item.state) if item.state in known.values() else str(item.state),
            error=item.status.error_message,
            since=item.since or None,
            labels=tuple(item.labels) if item.since else None,
        )
        for item in answer.model_version_status
    ]
    return sorted(found, key=lambda item: item.version)


def _spec(info: wire.TensorInfo) -> TensorSpec:
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
    return TensorSpec(dtype=dtype_name(info.dtype), shape=sizes)
