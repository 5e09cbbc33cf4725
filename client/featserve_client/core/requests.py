"""Requests to one model of a server: whom they name, and how long they may take."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence

from ..config import check_timeout
from ..wire import serving_pb2 as wire
from ..wire.tensors import Buffer, encode_predict_request
from .steps import UnaryCall

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GET_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"


class ModelRequests:
    """Makes the requests for one model, or one version of it."""

    def __init__(self, *, model: str, version: int | None, label: str | None, timeout_s: float) -> None:
        self.model = model
        self.version = version
        self.label = label
        self.timeout_s = timeout_s

    def predict(
        self,
        signature: str,
        inputs: Mapping[str, Sequence[Buffer]],
        output_filter: Iterable[str] = (),
        *,
        timeout_s: float | None,
    ) -> UnaryCall:
        """Returns the call of a signature with encoded inputs."""
        return self._call(PREDICT, encode_predict_request(self._spec(signature), inputs, output_filter), timeout_s)

    def metadata(self, timeout_s: float | None) -> UnaryCall:
        """Returns the call that asks for the signatures."""
        request = wire.GetModelMetadataRequest(model_spec=self._spec(), metadata_field=["signature_def"])
        return self._call(GET_METADATA, request.SerializeToString(), timeout_s)

    def status(self, timeout_s: float | None, *, of_all: bool = False) -> UnaryCall:
        """Returns the call that asks for the state of each version, or of the one that the client asks."""
        spec = wire.ModelSpec(name=self.model) if of_all else self._spec()
        request = wire.GetModelStatusRequest(model_spec=spec)
        return self._call(GET_STATUS, request.SerializeToString(), timeout_s)

    def _spec(self, signature: str = "") -> wire.ModelSpec:
        spec = wire.ModelSpec(name=self.model, signature_name=signature)
        if self.version is not None:
            spec.version.value = self.version
        elif self.label is not None:
            spec.version_label = self.label
        return spec

    def _call(self, method: str, request: bytes, timeout_s: float | None) -> UnaryCall:
        limit = self.timeout_s if timeout_s is None else check_timeout(timeout_s)
        return UnaryCall(method, request, limit, uuid.uuid4().hex)
