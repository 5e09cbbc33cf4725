"""TensorFlow Serving's messages, made from what the handlers answer: gRPC sends them, REST prints them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..models.state import VersionStatus
from ..protos.config_pb2 import MoreOfVersion
from ..protos.generated import get_model_metadata_pb2, get_model_status_pb2, model_pb2
from .handlers import Signatures


def model_spec(name: str, version: int, signature_name: str) -> Any:
    """Returns the `ModelSpec` of the version that answered."""
    spec = model_pb2.ModelSpec(name=name, signature_name=signature_name)
    spec.version.value = version
    return spec


def signature_def_map(result: Signatures) -> Any:
    """Returns a model's signatures as a `SignatureDefMap`."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in result.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    return signatures


def status_response(statuses: Iterable[VersionStatus]) -> Any:
    """Returns the states of a model's versions as a `GetModelStatusResponse`."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in statuses:
        line = response.model_version_status.add(version=status.version, state=int(status.state))
        line.status.error_code = status.error_code
        line.status.error_message = status.error_message
        more = MoreOfVersion(since=status.since, labels=status.labels)
        line.MergeFromString(more.SerializeToString())  # unknown fields, which other clients pass over
    return response
