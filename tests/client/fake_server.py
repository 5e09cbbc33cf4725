"""A model server without a model: a real gRPC server in this process whose answers the tests choose."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import grpc
import numpy as np
from featserve_client.wire import serving_pb2 as wire
from PIL import Image

SIZE = 8
LAYERS = {"early": (2, 2, 3), "late": (4,)}


def jpeg(seed: int, size: tuple[int, int] = (16, 12)) -> bytes:
    """A JPEG of noise, `size` as (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, "JPEG")
    return out.getvalue()


def features(data: bytes | np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What the fake model answers for one image: numbers that tell every image from every other."""
    raw = data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()
    if raw.startswith(b"\xff\xd8\xff") and b"broken" in raw:
        raise ValueError("the image cannot be decoded")
    numbers = np.frombuffer((raw * (12 // len(raw) + 1))[-12:], np.uint8).astype(np.float32)
    return {"early": numbers.reshape(2, 2, 3), "late": numbers[:4] + len(raw)}


def _info(dtype: int, *shape: int) -> wire.TensorInfo:
    dims = [wire.TensorShapeProto.Dim(size=size) for size in shape]
    return wire.TensorInfo(dtype=dtype, tensor_shape=wire.TensorShapeProto(dim=dims))


def signatures(layers: Mapping[str, tuple[int, ...]] = LAYERS) -> wire.SignatureDefMap:
    """The signatures of an exported model with these layers."""
    inputs = {
        "encoded": ("image_bytes", _info(wire.DT_STRING, -1)),
        "serving_default": ("images", _info(wire.DT_UINT8, -1, -1, -1, 3)),
        "float_images": ("images", _info(wire.DT_FLOAT, -1, SIZE, SIZE, 3)),
    }
    outputs = {layer: _info(wire.DT_FLOAT, -1, *shape) for layer, shape in layers.items()}
    found = wire.SignatureDefMap()
    for base, (key, info) in inputs.items():
        alone = {f"{base}/{layer}": [layer] for layer in outputs} if len(outputs) > 1 else {}
        for name, chosen in {base: list(outputs), **alone}.items():
            found.signature_def[name].inputs[key].CopyFrom(info)
            for layer in chosen:
                found.signature_def[name].outputs[layer].CopyFrom(outputs[layer])
    found.signature_def["manifest"].outputs["manifest"].CopyFrom(_info(wire.DT_STRING))
    return found


MANIFEST = {
    "format": 1,
    "model": "toy",
    "layers": {layer: {"shape": list(shape)} for layer, shape in LAYERS.items()},
    "weights": {"source": "random", "name": None, "sha256": "0" * 64},
    "preprocessing": {
        "image_size": [SIZE, SIZE],
        "interpolation": "bilinear",
        "crop_to_aspect_ratio": False,
        "max_pixels": 1_000_000,
    },
}


class Refusal(Exception):
    """Ends a fake call with a status."""

    def __init__(self, code: grpc.StatusCode, details: str = "refused", **trailing: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details
        self.trailing = tuple((key.replace("_", "-"), value) for key, value in trailing.items())


@dataclass
class FakeServer:
    """Answers for one model; tests change its fields, and read the calls it had."""

    model: str = "toy"
    #: Gives one image's activations by layer, from its bytes or its pixels.
    features: Callable[[Any], dict[str, np.ndarray[Any, Any]]] = features

    version: int = 1
    #: What the version's status says; a version that is not AVAILABLE is not found by other calls.
    status: wire.ModelVersionStatus = field(
        default_factory=lambda: wire.ModelVersionStatus(state=wire.ModelVersionStatus.AVAILABLE)
    )
    signatures: wire.SignatureDefMap = field(default_factory=signatures)
    manifest: dict[str, Any] = field(default_factory=lambda: dict(MANIFEST))
    #: Called before each Predict with the request and how many came before; raises Refusal, or changes the answer.
    before: Callable[[wire.PredictRequest, int], bytes | None] = lambda request, count: None
    predicts: list[wire.PredictRequest] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    metadata_calls: int = 0
    #: Predict calls that have been answered.
    answered: int = 0
    options: tuple[tuple[str, Any], ...] = ()
    credentials: grpc.ServerCredentials | None = None
    in_flight: int = 0
    most_in_flight: int = 0
    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> FakeServer:
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=self.options)
        service = "tensorflow.serving.PredictionService"
        methods = {"Predict": self._predict, "GetModelMetadata": self._metadata}
        for name, table in ((service, methods), ("tensorflow.serving.ModelService", {"GetModelStatus": self._status})):
            handlers = {key: grpc.unary_unary_rpc_method_handler(self._guard(call)) for key, call in table.items()}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
        address = f"127.0.0.1:{self.port}"
        if self.credentials:
            self.port = self._server.add_secure_port(address, self.credentials)
        else:
            self.port = self._server.add_insecure_port(address)
        self._server.start()
        return self

    def stop(self) -> None:
        self._server.stop(0).wait()

    @property
    def target(self) -> str:
        return f"localhost:{self.port}"

    def _guard(self, call: Callable[[bytes], bytes]) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def answer(raw: bytes, context: grpc.ServicerContext) -> bytes:
            with self.lock:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            try:
                return call(raw)
            except Refusal as refusal:
                context.set_trailing_metadata(refusal.trailing)
                context.abort(refusal.code, refusal.details)
                raise
            finally:
                with self.lock:
                    self.in_flight -= 1

        return answer

    def _find(self, spec: wire.ModelSpec, *, to_call: bool = True) -> None:
        wanted = spec.version.value if spec.HasField("version") else self.version
        away = to_call and self.status.state != wire.ModelVersionStatus.AVAILABLE
        if spec.name != self.model or wanted != self.version or away:
            raise Refusal(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")

    def _predict(self, raw: bytes) -> bytes:
        request = wire.PredictRequest.FromString(raw)
        with self.lock:
            count = len(self.predicts)
            self.predicts.append(request)
        self._find(request.model_spec)
        answer = self.before(request, count)
        if answer is not None:
            return answer
        name = request.model_spec.signature_name
        response = wire.PredictResponse()
        response.model_spec.version.value = self.version
        if name == "manifest":
            response.outputs["manifest"].dtype = wire.DT_STRING
            response.outputs["manifest"].string_val.append(json.dumps(self.manifest).encode())
            return response.SerializeToString()
        if name not in self.signatures.signature_def:
            raise Refusal(grpc.StatusCode.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
        (tensor,) = request.inputs.values()
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if tensor.dtype == wire.DT_STRING:
            items: list[Any] = list(tensor.string_val)
        else:
            dtype = {wire.DT_UINT8: np.uint8, wire.DT_FLOAT: np.float32}[tensor.dtype]
            items = list(np.frombuffer(tensor.tensor_content, dtype).reshape(shape))
        try:
            rows = [self.features(item) for item in items]
        except ValueError as exc:
            raise Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(exc)) from exc
        for layer in request.output_filter or self.signatures.signature_def[name].outputs:
            array = np.stack([row[layer] for row in rows])
            tensor = response.outputs[layer]
            tensor.dtype = wire.DT_FLOAT
            tensor.tensor_shape.dim.extend(wire.TensorShapeProto.Dim(size=size) for size in array.shape)
            tensor.float_val.extend(array.ravel().tolist())
        with self.lock:
            self.answered += 1
        return response.SerializeToString()

    def _metadata(self, raw: bytes) -> bytes:
        request = wire.GetModelMetadataRequest.FromString(raw)
        self._find(request.model_spec)
        self.metadata_calls += 1
        response = wire.GetModelMetadataResponse(model_spec=wire.ModelSpec(name=self.model))
        response.model_spec.version.value = self.version
        response.metadata["signature_def"].type_url = "type.googleapis.com/tensorflow.serving.SignatureDefMap"
        response.metadata["signature_def"].value = self.signatures.SerializeToString()
        return response.SerializeToString()

    def _status(self, raw: bytes) -> bytes:
        request = wire.GetModelStatusRequest.FromString(raw)
        self._find(request.model_spec, to_call=False)
        response = wire.GetModelStatusResponse(model_version_status=[self.status])
        response.model_version_status[0].version = self.version
        return response.SerializeToString()
