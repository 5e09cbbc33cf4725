"""The client's own messages are TensorFlow Serving's on the wire, but for what the embedded server tells beyond it."""

import pathlib
import subprocess
import sys

import pytest
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire import tensors as tensors
from featserve_serving.protos.config_pb2 import MoreOfVersion
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_service_pb2,
    status_pb2,
)

REAL = {
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "TensorProto": tensor_pb2.TensorProto,
    "ModelSpec": model_pb2.ModelSpec,
    "PredictRequest": predict_pb2.PredictRequest,
    "PredictResponse": predict_pb2.PredictResponse,
    "TensorInfo": meta_graph_pb2.TensorInfo,
    "SignatureDef": meta_graph_pb2.SignatureDef,
    "SignatureDefMap": get_model_metadata_pb2.SignatureDefMap,
    "GetModelMetadataRequest": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelMetadataResponse": get_model_metadata_pb2.GetModelMetadataResponse,
    "StatusProto": status_pb2.StatusProto,
    "GetModelStatusRequest": get_model_status_pb2.GetModelStatusRequest,
    "ModelVersionStatus": get_model_status_pb2.ModelVersionStatus,
    "GetModelStatusResponse": get_model_status_pb2.GetModelStatusResponse,
}


#: Read as packed bytes instead of numbers.
FAST = {"PackedTensor": tensor_pb2.TensorProto, "PackedPredictResponse": predict_pb2.PredictResponse}


def compare(own: Descriptor, real: Descriptor, packed: bool) -> None:
    for field in own.fields:
        further = own.name == "ModelVersionStatus" and field.number not in real.fields_by_number
        other = (MoreOfVersion.DESCRIPTOR if further else real).fields_by_number[field.number]
        assert (field.name, field.is_repeated) == (other.name, other.is_repeated), field.full_name
        if packed and other.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
            assert field.type == FieldDescriptor.TYPE_BYTES and other.is_packed
        else:
            assert field.type == other.type, field.full_name
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            compare(field.message_type, other.message_type, packed)
        if field.type == FieldDescriptor.TYPE_ENUM:
            for name, number in field.enum_type.values_by_name.items():
                assert other.enum_type.values_by_name[name].number == number.number


@pytest.mark.parametrize("name", sorted(wire.DESCRIPTOR.message_types_by_name))
def test_every_field_has_the_real_number_type_and_label(name: str) -> None:
    real = {**REAL, **FAST}[name]
    compare(wire.DESCRIPTOR.message_types_by_name[name], real.DESCRIPTOR, name in FAST)


def test_the_method_paths_exist() -> None:
    from featserve_client.core import requests

    real = {
        f"/{service.full_name}/{method.name}"
        for module in (prediction_service_pb2, model_service_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {requests.PREDICT, requests.GET_METADATA, requests.GET_STATUS} <= real


def test_the_generated_code_is_what_the_proto_gives(tmp_path: pathlib.Path) -> None:
    package = pathlib.Path(tensors.__file__).parent
    root = package.parent.parent
    options = [f"-I{root}", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, str(package / "serving.proto")], check=True)
    for name in ("serving_pb2.py", "serving_pb2.pyi"):
        assert (tmp_path / "featserve_client" / "wire" / name).read_text() == (package / name).read_text()
