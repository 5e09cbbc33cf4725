"""Warm-up: the requests that a model brings along, replayed before it takes any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..c_api import graph
from ..c_api.library import OpError
from ..c_api.session import Session
from ..errors import InvalidArgument, Unimplemented
from ..protos.generated import config_pb2, graph_pb2, prediction_log_pb2, types_pb2
from ..protos.tensors import TensorMap
from .servable import Servable

FILE = Path("assets.extra", "tf_serving_warmup_requests")
#: TensorFlow Serving refuses a model with more.
MAX_RECORDS = 1000

_OUT_OF_RANGE = 11
_BUFFER_BYTES = 256 << 10


def replay(servable: Servable, path: Path, iterations: int) -> None:
    """Runs every record of the model's warm-up file, if the model has that file.

    Raises:
        RequestError: a record fails, and with it the load, as in TensorFlow Serving.
    """
    file = path / FILE
    if not file.exists():
        return
    for count, record in enumerate(_records(file)):
        if count == MAX_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeeds the maximum ({MAX_RECORDS})")
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            raise Unimplemented(f"Unsupported log_type for warmup: {log.WhichOneof('log_type')}")
        request = log.predict_log.request
        for _ in range(iterations):
            servable.run(request.model_spec.signature_name, TensorMap(request.inputs), tuple(request.output_filter))


def _records(file: Path) -> Iterator[bytes]:
    """Reads a TFRecord file by TensorFlow's own reader, which checks every record's sum."""
    strings = {"output_types": [types_pb2.DT_STRING]}
    session = Session(config_pb2.ConfigProto())
    try:
        session.extend(
            graph_pb2.GraphDef(
                node=[
                    graph.constant("file", np.array(str(file).encode(), dtype=object)),
                    graph.constant("compression", np.array(b"", dtype=object)),
                    graph.constant("buffer_bytes", np.array(_BUFFER_BYTES, np.int64)),
                    graph.node("dataset", "TFRecordDataset", ["file", "compression", "buffer_bytes"]),
                    graph.node(
                        "iterator", "IteratorV2", (), strings, shared_name=b"", container=b"", output_shapes=[()]
                    ),
                    graph.node("start", "MakeIterator", ["dataset", "iterator"]),
                    graph.node("record", "IteratorGetNext", ["iterator"], strings, output_shapes=[()]),
                ]
            )
        )
        session.run({}, (), ("start",))
        while True:
            yield session.run({}, ("record:0",))[0].item()
    except OpError as exc:
        if exc.code != _OUT_OF_RANGE:
            raise
    finally:
        session.close()
