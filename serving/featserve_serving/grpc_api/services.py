"""The gRPC services: decode, call the handlers, encode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf import any_pb2, message

from ..core import messages
from ..core.handlers import CLASSIFY, REGRESS, Handlers, Signatures
from ..errors import InvalidArgument
from ..models.state import ModelRef
from ..protos.generated import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)
from ..protos.tensors import TensorMap, predict_response_bytes

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
_METADATA_FIELD = "signature_def"
#: Name, behavior, request type.
Method = tuple[str, Callable[..., Any], Any]


class PredictionServicer:
    """`tensorflow.serving.PredictionService`."""

    name = PREDICTION_SERVICE

    def __init__(self, handlers: Handlers, *, as_content: bool = False) -> None:
        self._handlers = handlers
        self._as_content = as_content

    def Predict(self, request: Any, context: grpc.ServicerContext) -> bytes:  # noqa: D102, N802
        result = self._handlers.predict(
            _present_ref(request), request.model_spec.signature_name, TensorMap(request.inputs), request.output_filter
        )
        spec = messages.model_spec(result.model, result.version, result.signature_name)
        return predict_response_bytes(spec.SerializeToString(), result.outputs, as_content=self._as_content)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: D102, N802
        _check_metadata_request(request)
        return _metadata_response(self._handlers.signatures(model_ref(request)))

    def Classify(self, request: Any, context: grpc.ServicerContext) -> None:  # noqa: D102, N802
        self._handlers.refuse_examples(_present_ref(request), request.model_spec.signature_name, CLASSIFY)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> None:  # noqa: D102, N802
        self._handlers.refuse_examples(_present_ref(request), request.model_spec.signature_name, REGRESS)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> None:  # noqa: D102, N802
        first = request.tasks[0] if request.tasks else inference_pb2.InferenceTask()
        self._handlers.refuse_multi_inference(
            model_ref(first),
            [(task.model_spec.signature_name, task.method_name) for task in request.tasks],
        )

    def methods(self) -> Iterable[Method]:
        """Returns the service's methods."""
        return (
            ("Predict", self.Predict, predict_pb2.PredictRequest),
            ("GetModelMetadata", self.GetModelMetadata, get_model_metadata_pb2.GetModelMetadataRequest),
            ("Classify", self.Classify, classification_pb2.ClassificationRequest),
            ("Regress", self.Regress, regression_pb2.RegressionRequest),
            ("MultiInference", self.MultiInference, inference_pb2.MultiInferenceRequest),
        )


class ModelServicer:
    """`tensorflow.serving.ModelService`."""

    name = MODEL_SERVICE

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: D102, N802
        ref = _present_ref(request)
        return messages.status_response(self._handlers.statuses(ref.name, ref.version))

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: D102, N802
        self._handlers.reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        for name in dict.fromkeys(request.metric_names):
            response.metric.add(name=name, int64_value_increase=0)
        return response

    def methods(self) -> Iterable[Method]:
        """Returns the service's methods."""
        return (
            ("GetModelStatus", self.GetModelStatus, get_model_status_pb2.GetModelStatusRequest),
            ("HandleReloadConfigRequest", self.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest),
        )


def method_handlers(methods: Iterable[Method]) -> dict[str, grpc.RpcMethodHandler]:
    """Returns gRPC's table of a service's methods, all from bytes to bytes.

    gRPC decodes in the one thread that serves the connections; decoding in the call's own thread keeps that one free.
    """
    return {name: grpc.unary_unary_rpc_method_handler(_on_bytes(behavior, kind)) for name, behavior, kind in methods}


def _on_bytes(behavior: Callable[..., Any], request_type: Any) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def on_bytes(raw: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            request = request_type.FromString(raw)
        except message.DecodeError as exc:
            raise InvalidArgument(f"The request is no {request_type.DESCRIPTOR.name} message.") from exc
        response = behavior(request, context)
        return response if isinstance(response, bytes) else bytes(response.SerializeToString())

    return on_bytes


def model_ref(request: Any) -> ModelRef:
    """Reads the `ModelSpec` of a request; an absent `ModelSpec` names no model."""
    spec = request.model_spec
    choice = spec.WhichOneof("version_choice")
    return ModelRef(
        name=spec.name,
        version=spec.version.value if choice == "version" else None,
        label=spec.version_label if choice == "version_label" else None,
    )


def _present_ref(request: Any) -> ModelRef:
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")
    return model_ref(request)


def _check_metadata_request(request: Any) -> None:
    """Refuses a request that does not ask for the signatures of a model."""
    _present_ref(request)
    if not request.metadata_field:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for metadata_field in request.metadata_field:
        if metadata_field != _METADATA_FIELD:
            raise InvalidArgument(f"Metadata field {metadata_field} is not supported")


def _metadata_response(result: Signatures) -> Any:
    packed = any_pb2.Any()
    packed.Pack(messages.signature_def_map(result))
    return get_model_metadata_pb2.GetModelMetadataResponse(
        model_spec=messages.model_spec(result.model, result.version, ""), metadata={_METADATA_FIELD: packed}
    )
