"""Warm-up records: TensorFlow Serving runs them before a version takes requests, so that the first is not slow.

Reference: https://www.tensorflow.org/tfx/serving/saved_model_warmup.
"""

import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from ..manifest import Manifest

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_RECORDS = 1000


def write_warmup(directory: Path, manifest: Manifest) -> None:
    """Writes one record for each signature and allowed batch size into a version's directory."""
    path = directory / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for request in islice(_requests(manifest), MAX_RECORDS):
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _requests(manifest: Manifest) -> Iterator[predict_pb2.PredictRequest]:
    # One pixel larger than the network's, so that the resize is warmed as well.
    height, width = (side + 1 for side in manifest["preprocessing"]["image_size"])
    for signature, description in manifest["signatures"].items():
        for batch_size in manifest["batching"]["allowed_batch_sizes"]:
            shape = [
                batch_size,
                *(side or size for side, size in zip(description["shape"][1:], (height, width, 3), strict=False)),
            ]
            request = predict_pb2.PredictRequest()
            request.model_spec.name = manifest["model"]
            request.model_spec.signature_name = signature
            tensor = request.inputs[description["input"]]
            tensor.dtype = tf.as_dtype(description["dtype"]).as_datatype_enum
            tensor.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
            # A tensor with fewer values than elements repeats the last: a record stays small.
            if description["dtype"] == "string":
                tensor.string_val.append(_jpeg(height, width))
            elif description["dtype"] == "uint8":
                tensor.int_val.append(127)
            else:
                tensor.float_val.append(127.0)
            yield request


def _jpeg(height: int, width: int) -> bytes:
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(ramp).save(file, "JPEG")
    return file.getvalue()
