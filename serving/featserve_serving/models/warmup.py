"""Warm-up: the requests that a model brings along, replayed before it takes any other."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from ..errors import InvalidArgument, Unimplemented
from ..protos.tensors import TensorMap
from .servable import Servable

FILE = Path("assets.extra", "tf_serving_warmup_requests")
#: TensorFlow Serving refuses a model with more.
MAX_RECORDS = 1000


def replay(servable: Servable, path: Path, iterations: int) -> None:
    """Runs every record of the model's warm-up file, if the model has that file.

    Raises:
        RequestError: a record fails, and with it the load, as in TensorFlow Serving.
    """
    file = path / FILE
    if not file.exists():
        return
    for count, record in enumerate(tf.data.TFRecordDataset(str(file)).as_numpy_iterator()):
        if count == MAX_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeeds the maximum ({MAX_RECORDS})")
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            raise Unimplemented(f"Unsupported log_type for warmup: {log.WhichOneof('log_type')}")
        request = log.predict_log.request
        for _ in range(iterations):
            servable.run(request.model_spec.signature_name, TensorMap(request.inputs), tuple(request.output_filter))
