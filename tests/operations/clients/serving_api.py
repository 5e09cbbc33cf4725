"""tensorflow-serving-api: the stubs that TensorFlow Serving's own examples use."""

import json
import sys
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

plan = json.loads(Path(sys.argv[1]).read_text())
channel = grpc.insecure_channel(plan["grpc"])
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)


def tell(call, answer):
    print(json.dumps({"call": call, "answer": answer}))


inputs = {
    "encoded": ("encoded", "image_bytes", [Path(file).read_bytes() for file in plan["jpegs"]]),
    "uint8": ("serving_default", "images", np.asarray(plan["uint8"], np.uint8)),
    "float": ("float_images", "images", np.asarray(plan["float"], np.float32)),
}
for call, (signature, name, value) in inputs.items():
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = plan["model"], signature
    request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    (output,) = prediction.Predict(request, 60).outputs.values()
    tell(call, tf.make_ndarray(output).tolist())

request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
request.model_spec.name = plan["model"]
signatures = get_model_metadata_pb2.SignatureDefMap()
prediction.GetModelMetadata(request, 60).metadata["signature_def"].Unpack(signatures)
tell("metadata", sorted(signatures.signature_def))

request = get_model_status_pb2.GetModelStatusRequest()
request.model_spec.name = plan["model"]
states = models.GetModelStatus(request, 60).model_version_status
tell("status", [get_model_status_pb2.ModelVersionStatus.State.Name(each.state) for each in states])

request = classification_pb2.ClassificationRequest()
request.model_spec.name = plan["model"]
request.input.example_list.examples.add()
try:
    prediction.Classify(request, 60)
except grpc.RpcError as error:
    tell("classify", error.code().name)
