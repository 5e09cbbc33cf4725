"""This client against tensorflow-serving-api: import, building requests, parsing answers, without a server."""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire.tensors import decode_predict_response, encode_predict_request, encode_tensor

_IMPORT = (
    "import time,resource;s=time.perf_counter();{};print(time.perf_counter()-s,resource.getrusage(0).ru_maxrss/1024)"
)
_MODULES = (
    "import featserve_client",
    "from tensorflow_serving.apis import prediction_service_pb2_grpc; import tensorflow",
)
_ROUNDS = 3
_SECONDS = 0.5


def client(options: argparse.Namespace) -> list[str]:
    """The clients' own work, without a server."""
    # TensorFlow stays out of the process of the benchmarks.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        rows = process.submit(_conversions).result()
    (own_s, own_mb), (their_s, their_mb) = map(_imported, _MODULES)
    rows += [("import, s", own_s, their_s), ("memory after import, MB", own_mb, their_mb)]
    table = [f"| {what} | {ours} | {theirs} | {theirs / ours:.1f} |" for what, ours, theirs in rows]
    return ["| | this client | tensorflow-serving-api | ÷ |", "|---|--:|--:|--:|", *table]


def _imported(statement: str) -> tuple[float, float]:
    """Returns the seconds of an import, and the MB of the process afterwards."""
    runs = []
    for _ in range(_ROUNDS):
        command = [sys.executable, "-W", "ignore", "-c", _IMPORT.format(statement)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        runs.append([float(number) for number in out.split()])
    seconds, megabytes = np.median(runs, axis=0)
    return round(float(seconds), 3), round(float(megabytes), 1)


def _conversions() -> list[tuple[Any, ...]]:
    """Returns the name of each conversion, and the microseconds of both clients."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    def build(images: Any) -> bytes:
        return encode_predict_request(wire.ModelSpec(name="m"), {"images": encode_tensor(images)})

    def build_official(images: Any) -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
        return bytes(request.SerializeToString())

    def parse_official(raw: bytes) -> Any:
        return np.asarray(tf.make_ndarray(predict_pb2.PredictResponse.FromString(raw).outputs["y"]))

    rows = []
    for count in (1, 32):
        images = np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), np.uint8)
        times = (_microseconds(partial(each, images)) for each in (build, build_official))
        rows.append((f"build {count} images, us", *times))
    for size in (1_000, 200_000, 12_500_000):
        values = np.random.default_rng(0).random(size, np.float32)
        for form in ("tensor_content", "float_val"):
            answer = predict_pb2.PredictResponse()
            if form == "tensor_content":
                answer.outputs["y"].CopyFrom(tf.make_tensor_proto(values))
            else:
                answer.outputs["y"].dtype = 1
                answer.outputs["y"].tensor_shape.dim.add(size=size)
                answer.outputs["y"].float_val.extend(values)
            raw = answer.SerializeToString()
            np.testing.assert_array_equal(decode_predict_response(raw)[1]["y"], parse_official(raw))
            times = (_microseconds(partial(each, raw)) for each in (decode_predict_response, parse_official))
            rows.append((f"parse {size * 4} bytes of {form}, us", *times))
    return rows


def _microseconds(call: Callable[[], object]) -> float:
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) * 1e6, 1)
