"""What the client does, without doing it: generators that yield calls and receive their answers.

The sync and the async client run the same plans; they differ only in how a call is made and waited for.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

from ..config import Decode, Limits
from ..exceptions import ConfigError, ConnectError, DeadlineExceeded, InvalidRequest, ModelNotFound, ResponseError
from ..images.inputs import Image, ImageLike, iterate, load
from ..images.preprocess import Preprocessing, decode_local
from ..model.metadata import Choice, ModelMetadata, choose, describe, parse_metadata
from ..wire import serving_pb2 as wire
from ..wire.tensors import Part, parse_predict_response, predict_request, strings_parts, tensor_parts

_T = TypeVar("_T")

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"

#: Seconds between two looks at a server that is not ready.
_POLL_S = 0.2


@dataclass(frozen=True)
class Call:
    """One RPC; its answer is the response's bytes."""

    method: str
    request: bytes
    timeout_s: float
    request_id: str


@dataclass(frozen=True)
class Sleep:
    """A pause."""

    seconds: float


@dataclass(frozen=True)
class Gather:
    """Several plans at a time, `concurrency` at most; the answer is the list of their results in order."""

    plans: Iterable[Plan[Any]]
    concurrency: int


Step = Call | Sleep | Gather
Plan = Generator[Step, Any, _T]


@dataclass(frozen=True, kw_only=True)
class VersionStatus:
    """One version of a model as the server reports it; `error` is empty while there is none."""

    version: int
    state: str
    error: str

    @property
    def available(self) -> bool:
        """Whether this version answers requests."""
        return self.state == "AVAILABLE"


@dataclass(frozen=True)
class Piece:
    """Images that travel in one request, and their places in the input."""

    places: list[int]
    images: list[Image]


@dataclass(frozen=True)
class Rows:
    """The answer to a piece."""

    places: list[int]
    outputs: dict[str, npt.NDArray[np.float32]]
    version: int


class Planner:
    """Makes the plans for one model of one server and remembers the model's metadata."""

    def __init__(
        self, *, model: str, version: int | None, label: str | None, timeout_s: float, limits: Limits, decode: Decode
    ) -> None:
        if not isinstance(model, str) or not model:
            raise ConfigError(f"the model's name must be text and not empty, not {model!r}")
        if version is not None and (not isinstance(version, int | np.integer) or not 0 <= version < 2**63):
            raise ConfigError(f"version must be a whole number from 0 up, not {version!r}")
        if version is not None and label is not None:
            raise ConfigError(f"version ({version}) and label ({label!r}) cannot both be given")
        if decode not in ("client", "server"):
            raise ConfigError(f"decode must be 'client' or 'server', not {decode!r}")
        self.model = model
        self.version = version
        self.label = label
        self.timeout_s = check_timeout(timeout_s)
        self.limits = limits
        self.decode = decode
        self._known: ModelMetadata | None = None
        self._manifest_of: ModelMetadata | None = None

    # --- the model's own description ---------------------------------------------------------------------------------

    def signatures(self, timeout_s: float | None = None) -> Plan[ModelMetadata]:
        """Return the model's signatures, asked for once and again after another version has answered."""
        if self._known is None:
            request = wire.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
            raw = yield self._call(GET_METADATA, request.SerializeToString(), timeout_s)
            self._known = parse_metadata(raw)
        return self._known

    def metadata(self, timeout_s: float | None = None) -> Plan[ModelMetadata]:
        """Return the signatures and, from models that carry one, the manifest."""
        known = yield from self.signatures(timeout_s)
        if known.manifest is None and "manifest" in known.signatures and self._manifest_of is not known:
            request = predict_request(self._spec("manifest"), {})
            raw = yield self._call(PREDICT, request, timeout_s)
            version, outputs = _parse(raw)
            try:
                manifest = json.loads(outputs["manifest"].item())
                if not isinstance(manifest, dict):
                    raise TypeError("not an object")
            except (KeyError, ValueError, TypeError) as exc:
                raise ResponseError(f"model {self.model!r} has a manifest that cannot be read: {exc}") from exc
            known = replace(known, manifest=manifest)
            self._known = known if version == known.version else None
        return known

    def status(self, timeout_s: float | None = None) -> Plan[list[VersionStatus]]:
        """Return the state of each version."""
        request = wire.GetModelStatusRequest(model_spec=self._spec())
        raw = yield self._call(GET_STATUS, request.SerializeToString(), timeout_s)
        try:
            answer = wire.GetModelStatusResponse.FromString(raw)
        except DecodeError as exc:
            raise ResponseError(f"the server's model status cannot be read: {exc}") from exc
        found = [
            VersionStatus(
                version=item.version,
                state=wire.ModelVersionStatus.State.Name(item.state)
                if item.state in wire.ModelVersionStatus.State.values()
                else str(item.state),
                error=item.status.error_message,
            )
            for item in answer.model_version_status
        ]
        return sorted(found, key=lambda item: item.version)

    def wait_until_ready(self, timeout_s: float) -> Plan[None]:
        """Return once a version is available."""
        check_timeout(timeout_s)
        end = time.monotonic() + timeout_s
        last = ""
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(
                    f"model {self.model!r} is not ready after timeout_s={timeout_s:g} seconds: "
                    f"{last or 'it was not asked'}",
                    model=self.model,
                )
            try:
                versions = yield from self.status(min(left, self.timeout_s))
                if self.label is not None and any(item.available for item in versions):
                    yield from self.signatures(min(left, self.timeout_s))  # a status is of any label, known or not
            except (ConnectError, ModelNotFound) as exc:
                last = str(exc)
            except DeadlineExceeded as exc:  # the last try's time is cut short: what an earlier one found tells more
                last = last or str(exc)
            else:
                if any(item.available for item in versions):
                    return
                last = ", ".join(f"version {item.version} {item.state} {item.error}".rstrip() for item in versions)
            yield Sleep(min(_POLL_S, max(end - time.monotonic(), 0)))

    # --- any signature -----------------------------------------------------------------------------------------------

    def predict(
        self,
        inputs: Mapping[str, npt.ArrayLike],
        signature: str,
        output_filter: Sequence[str],
        timeout_s: float | None,
    ) -> Plan[dict[str, npt.NDArray[Any]]]:
        """Return the outputs of one request."""
        try:
            tensors = {name: tensor_parts(value) for name, value in inputs.items()}
        except TypeError as exc:
            raise InvalidRequest(f"inputs of {signature!r}: {exc}", model=self.model) from exc
        request = predict_request(self._spec(signature), tensors, output_filter)
        try:
            raw = yield self._call(PREDICT, request, timeout_s)
        except InvalidRequest as exc:
            known = yield from self.signatures(timeout_s)
            if signature not in known.signatures:
                raise InvalidRequest(
                    f"model {self.model!r} has no signature {signature!r}; it has {describe(known)}",
                    code=exc.code,
                    details=exc.details,
                    target=exc.target,
                    model=self.model,
                    request_id=exc.request_id,
                ) from exc
            raise
        version, outputs = _parse(raw)
        self._notice(version)
        for name in output_filter:
            if name not in outputs:
                raise ResponseError(f"the answer lacks output {name!r}; it has {', '.join(sorted(outputs))}")
        return {name: array.copy() for name, array in sorted(outputs.items())}

    # --- images ------------------------------------------------------------------------------------------------------

    def extract(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: str | Iterable[str] | None,
        timeout_s: float | None,
        concurrency: int,
    ) -> Plan[dict[str, npt.NDArray[np.float32]]]:
        """Return each layer's activations for all images, in the order of the input."""
        wanted = check_layers(layers)
        known = yield from self.prepare(wanted, timeout_s)
        pieces: list[Piece] = []

        def plans() -> Iterator[Plan[Rows]]:
            for piece in self.cut(self.load(iterate(images), known), known, wanted):
                pieces.append(piece)
                yield self.piece(piece, wanted, timeout_s)

        rows: list[Rows] = yield Gather(plans(), concurrency)
        if not rows:
            raise ConfigError("no images: the list is empty")
        if len({row.version for row in rows}) > 1:
            # Another version came up meanwhile. The pieces are at hand: ask again, now all of one version.
            rows = yield Gather((self.piece(piece, wanted, timeout_s) for piece in pieces), concurrency)
            versions = {row.version for row in rows}
            if len(versions) > 1:
                raise ResponseError(
                    f"model {self.model!r} answered with versions {sorted(versions)}; ask for one of them"
                )
        return merge(rows)

    def prepare(self, layers: Sequence[str] | None, timeout_s: float | None = None) -> Plan[ModelMetadata]:
        """Return what cutting and choosing need, and refuse layers that the model lacks before anything is read."""
        known = yield from self.metadata(timeout_s) if self.decode == "client" else self.signatures(timeout_s)
        for layer in layers or ():
            if known.layers and layer not in known.layers:
                raise InvalidRequest(
                    f"model {self.model!r} has no layer {layer!r}; it has {', '.join(known.layers)}", model=self.model
                )
        if self.decode == "client":
            Preprocessing.of(known)
        return known

    def load(self, named: Iterable[tuple[str, ImageLike]], known: ModelMetadata) -> Iterator[Image]:
        """Yield the images as they will be sent."""
        for source, item in named:
            yield from self.load_one(source, item, known)

    def load_one(self, source: str, item: ImageLike, known: ModelMetadata) -> list[Image]:
        """Return the images of one input."""
        if self.decode == "client":
            return decode_local(source, item, Preprocessing.of(known))
        return load(source, item, max_bytes=self.limits.max_message_bytes)

    def cut(self, images: Iterable[Image], known: ModelMetadata, layers: Sequence[str] | None) -> Iterator[Piece]:
        """Yield requests' worth of images: alike, and within the limits of bytes and number."""
        cutter = Cutter(self.limits, lambda image: choose(known, image.kind, layers).row_bytes)
        for image in images:
            yield from cutter.add(image)
        yield from cutter.rest()

    def piece(self, piece: Piece, layers: Sequence[str] | None, timeout_s: float | None) -> Plan[Rows]:
        """Return the activations for one request's worth of images."""
        known = yield from self.signatures(timeout_s)
        try:
            return (yield from self._ask(piece, choose(known, piece.images[0].kind, layers), timeout_s))
        except (InvalidRequest, ModelNotFound):
            # The server may have another version by now, with other signatures: look once.
            if self._known is known:
                self._known = None
            fresh = yield from self.signatures(timeout_s)
            if fresh.version == known.version:
                self._known = known
                raise
            return (yield from self._ask(piece, choose(fresh, piece.images[0].kind, layers), timeout_s))

    def _ask(self, piece: Piece, choice: Choice, timeout_s: float | None) -> Plan[Rows]:
        tensor = _tensor(piece.images, choice)
        request = predict_request(self._spec(choice.signature), {choice.input: tensor}, choice.output_filter)
        raw = yield self._call(PREDICT, request, timeout_s)
        version, outputs = _parse(raw)
        self._notice(version)
        count = len(piece.images)
        return Rows(piece.places, {layer: _row_output(layer, outputs, count) for layer in choice.layers}, version)

    # --- shared ------------------------------------------------------------------------------------------------------

    def _spec(self, signature: str = "") -> wire.ModelSpec:
        spec = wire.ModelSpec(name=self.model, signature_name=signature)
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label
        return spec

    def _call(self, method: str, request: bytes, timeout_s: float | None) -> Call:
        limit = self.timeout_s if timeout_s is None else check_timeout(timeout_s)
        return Call(method, request, limit, uuid.uuid4().hex)

    def _notice(self, version: int) -> None:
        if self._known is not None and version not in (0, self._known.version):
            self._known = None


class Cutter:
    """Sorts images into requests: each holds images of one kind and shape, within the limits."""

    def __init__(self, limits: Limits, row_bytes: Callable[[Image], int]) -> None:
        self._limits = limits
        self._row_bytes = row_bytes
        self._open: dict[tuple[object, ...], tuple[Piece, int, int]] = {}
        self._next = 0

    def skip(self) -> int:
        """Return the next place and leave it empty."""
        self._next += 1
        return self._next - 1

    def add(self, image: Image) -> Iterator[Piece]:
        """Take one image; yield what is full now."""
        row_bytes = self._row_bytes(image)
        place = self.skip()
        piece, size, most = self._open.pop(image.group, (None, 0, 0))
        if piece is not None and size + image.nbytes > self._limits.max_request_bytes:
            yield piece
            piece = None
        if piece is None:
            fit = self._limits.max_response_bytes // max(row_bytes, 1)
            piece, size, most = Piece([], []), 0, max(1, min(self._limits.max_request_images, fit))
        piece.places.append(place)
        piece.images.append(image)
        if len(piece.images) >= most:
            yield piece
        else:
            self._open[image.group] = (piece, size + image.nbytes, most)
        # Images of ever new shapes must not pile up: the oldest group goes first.
        while sum(size for _, size, _ in self._open.values()) > 2 * self._limits.max_request_bytes:
            yield self._open.pop(next(iter(self._open)))[0]

    def rest(self) -> Iterator[Piece]:
        """Yield what is left."""
        for piece, _, _ in self._open.values():
            yield piece
        self._open.clear()


def merge(rows: Sequence[Rows]) -> dict[str, npt.NDArray[np.float32]]:
    """Return one array per layer, each row at its place."""
    count = sum(len(row.places) for row in rows)
    merged = {}
    for layer, first in rows[0].outputs.items():
        shapes = {row.outputs[layer].shape[1:] for row in rows}
        if len(shapes) > 1:
            raise ResponseError(f"layer {layer!r} has a different shape for different images: {sorted(shapes)}")
        whole = np.empty((count, *first.shape[1:]), np.float32)
        for row in rows:
            whole[row.places] = row.outputs[layer]
        merged[layer] = whole
    return merged


def check_layers(layers: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the layers without repeats; None means all."""
    if layers is None:
        return None
    names = (layers,) if isinstance(layers, str) else tuple(dict.fromkeys(layers))
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"layers must be names, or None for all; not {names!r}")
    return names


def check_timeout(timeout_s: float) -> float:
    """Return a timeout that is one."""
    if not isinstance(timeout_s, int | float) or not 0 < timeout_s < 2**31:
        raise ConfigError(f"timeout_s must be above 0 and finite, not {timeout_s!r}")
    return timeout_s


def _tensor(images: Sequence[Image], choice: Choice) -> list[Part]:
    if images[0].kind == "encoded":
        return strings_parts([image.data for image in images if isinstance(image.data, bytes)], (len(images),))
    arrays = [image.data for image in images if isinstance(image.data, np.ndarray)]
    wanted = (choice.input_spec.shape or (None, *arrays[0].shape))[1:]
    if len(wanted) != 3 or any(w not in (None, s) for w, s in zip(wanted, arrays[0].shape, strict=True)):
        raise InvalidRequest(
            f"{images[0].source}: shape {arrays[0].shape}; signature {choice.signature!r} takes {choice.input_spec}"
        )
    return tensor_parts(arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays))


def _row_output(layer: str, outputs: Mapping[str, npt.NDArray[Any]], count: int) -> npt.NDArray[np.float32]:
    array = outputs.get(layer)
    if array is None:
        raise ResponseError(f"the answer lacks layer {layer!r}; it has {', '.join(sorted(outputs)) or 'nothing'}")
    if array.dtype != np.float32:
        raise ResponseError(f"layer {layer!r} came as {array.dtype}; expected float32")
    if array.ndim < 1 or array.shape[0] != count:
        raise ResponseError(f"layer {layer!r} came with shape {array.shape}; expected {count} rows")
    return array


def _parse(raw: bytes) -> tuple[int, dict[str, npt.NDArray[Any]]]:
    try:
        return parse_predict_response(raw)
    except DecodeError as exc:
        raise ResponseError(f"the server's answer cannot be read: {exc}") from exc
