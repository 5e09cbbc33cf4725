"""The activations of images: loaded, cut into batches, asked for, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..config import Decode, Limits
from ..exceptions import ConfigError, InvalidRequest, ModelNotFound, ResponseError
from ..images.inputs import Image, ImageLike, iterate, load
from ..images.preprocess import check_preprocessing, load_preprocessed
from ..model.manifest import Manifest, Preprocessing
from ..model.metadata import ModelMetadata
from ..model.selection import SelectedSignature, check_has_layers, select_signature
from ..wire.tensors import Buffer, decode_predict_response, encode_strings, encode_tensor
from .batching import Batcher, BatchResult, ImageBatch, merge
from .metadata import MetadataCache
from .requests import ModelRequests
from .steps import Gather, Operation
from .vectors import VectorKind, to_vectors, vector_layer


class Extractor:
    """Extracts activations from one model."""

    def __init__(self, requests: ModelRequests, cache: MetadataCache, limits: Limits, decode: Decode) -> None:
        self.limits = limits
        self._requests = requests
        self._cache = cache
        self._decode = decode

    def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None,
        timeout_s: float | None,
        concurrency: int,
        reduce: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]] = lambda array: array,
    ) -> Operation[dict[str, npt.NDArray[np.float32]]]:
        """Returns each layer's activations for all images, in the order of the input; each answer passes `reduce`."""
        wanted = parse_layers(layers)
        known = yield from self.prepare(wanted, timeout_s)
        batches: list[ImageBatch] = []

        def operations() -> Iterator[Operation[BatchResult]]:
            batcher = self.batcher(known, wanted)
            for source, item in iterate(images):
                for image in self.load(source, item, known):
                    yield from map(operation, batcher.add(image))
            yield from map(operation, batcher.flush())

        def operation(batch: ImageBatch) -> Operation[BatchResult]:
            batches.append(batch)
            return reduced(batch)

        def reduced(batch: ImageBatch) -> Operation[BatchResult]:
            result = yield from self.ask(batch, wanted, timeout_s)
            return replace(result, outputs={layer: reduce(array) for layer, array in result.outputs.items()})

        results: list[BatchResult] = yield Gather(operations(), concurrency)
        if not results:
            raise ConfigError("no images: the list is empty")
        if len({result.version for result in results}) > 1:
            # Another version came up meanwhile. The batches are at hand: ask again, now all of one version.
            results = yield Gather((reduced(batch) for batch in batches), concurrency)
            versions = {result.version for result in results}
            if len(versions) > 1:
                raise ResponseError(
                    f"model {self._requests.model!r} answered with versions {sorted(versions)}; ask for one of them"
                )
        return merge(results)

    def embed(
        self,
        images: ImageLike | Iterable[ImageLike],
        layer: str | None,
        kind: VectorKind,
        timeout_s: float | None,
        concurrency: int,
    ) -> Operation[npt.NDArray[np.float32]]:
        """Returns one vector per image, in the order of the input."""
        chosen = vector_layer((yield from self._cache.with_manifest(timeout_s)), layer)
        vectors = yield from self.extract(images, chosen, timeout_s, concurrency, lambda array: to_vectors(array, kind))
        return vectors[chosen]

    def prepare(self, layers: Sequence[str] | None, timeout_s: float | None = None) -> Operation[ModelMetadata]:
        """Returns the metadata that loading and batching need; refuses layers that the model lacks before reading."""
        if self._decode == "client":
            known = yield from self._cache.with_manifest(timeout_s)
            _preprocessing(known)
        else:
            known = yield from self._cache.signatures(timeout_s)
        if known.layers:
            check_has_layers(known, layers, dict.fromkeys(known.layers))
        return known

    def load(self, source: str, item: ImageLike, known: ModelMetadata) -> list[Image]:
        """Returns the images of one input, as they will be sent."""
        if self._decode == "client":
            return load_preprocessed(source, item, _preprocessing(known))
        return load(source, item, max_bytes=self.limits.max_message_bytes)

    def batcher(self, known: ModelMetadata, layers: Sequence[str] | None) -> Batcher:
        """Returns a batcher of images for requests for these layers."""
        return Batcher(self.limits, lambda image: select_signature(known, image.kind, layers).row_bytes)

    def ask(self, batch: ImageBatch, layers: Sequence[str] | None, timeout_s: float | None) -> Operation[BatchResult]:
        """Returns the activations of one batch."""
        known = yield from self._cache.signatures(timeout_s)
        kind = batch.images[0].kind
        try:
            return (yield from self._ask(batch, select_signature(known, kind, layers), timeout_s))
        except (InvalidRequest, ModelNotFound):
            # The server may have another version by now, with other signatures: look once.
            fresh = yield from self._cache.renewed(known, timeout_s)
            if fresh is None:
                raise
            return (yield from self._ask(batch, select_signature(fresh, kind, layers), timeout_s))

    def _ask(self, batch: ImageBatch, signature: SelectedSignature, timeout_s: float | None) -> Operation[BatchResult]:
        inputs = {signature.input: _encode(batch.images, signature)}
        raw = yield self._requests.predict(signature.name, inputs, signature.output_filter, timeout_s=timeout_s)
        version, outputs = decode_predict_response(raw)
        self._cache.answered_by(version)
        count = len(batch.images)
        return BatchResult(batch.indices, {layer: _rows(layer, outputs, count) for layer in signature.layers}, version)


def parse_layers(layers: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Returns the names of layers without repeats; None stands for all.

    Raises:
        ConfigError: there is no layer, or a layer's name is empty or no text.
    """
    if layers is None:
        return None
    names = tuple(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else (layers,)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"layers must be names, or None for all; not {names!r}")
    return tuple(dict.fromkeys(names))


def _preprocessing(model: ModelMetadata) -> Preprocessing:
    if model.manifest is None:
        raise InvalidRequest(
            f'model {model.model!r} has no manifest, which decode="client" needs; use decode="server"',
            model=model.model,
        )
    return check_preprocessing(model.model, Manifest.parse(model.manifest).preprocessing)


def _encode(images: Sequence[Image], signature: SelectedSignature) -> list[Buffer]:
    if images[0].kind == "encoded":
        return encode_strings([image.data for image in images if isinstance(image.data, bytes)], (len(images),))
    arrays = [image.data for image in images if isinstance(image.data, np.ndarray)]
    wanted = (signature.input_spec.shape or (None, *arrays[0].shape))[1:]
    if len(wanted) != 3 or any(w not in (None, s) for w, s in zip(wanted, arrays[0].shape, strict=True)):
        raise InvalidRequest(
            f"{images[0].source}: shape {arrays[0].shape}; signature {signature.name!r} takes {signature.input_spec}"
        )
    return encode_tensor(arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays))


def _rows(layer: str, outputs: Mapping[str, npt.NDArray[Any]], count: int) -> npt.NDArray[np.float32]:
    array = outputs.get(layer)
    if array is None:
        raise ResponseError(f"the answer lacks layer {layer!r}; it has {', '.join(sorted(outputs)) or 'nothing'}")
    if array.dtype != np.float32:
        raise ResponseError(f"layer {layer!r} came as {array.dtype}; expected float32")
    if array.ndim < 1 or array.shape[0] != count:
        raise ResponseError(f"layer {layer!r} came with shape {array.shape}; expected {count} rows")
    return array
