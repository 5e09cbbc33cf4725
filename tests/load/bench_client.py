"""Times the client's own work beside tensorflow-serving-api's: import, building requests, parsing answers.

python tests/load/bench_client.py [--json]
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

IMPORT = (
    "import time,resource;s=time.perf_counter();{};print(time.perf_counter()-s,resource.getrusage(0).ru_maxrss/1024)"
)
MODULES = {
    "featserve_client": "import featserve_client",
    "tensorflow-serving-api": "from tensorflow_serving.apis import prediction_service_pb2_grpc; import tensorflow",
}


def measure_import(statement: str, rounds: int = 3) -> dict[str, float]:
    runs = []
    for _ in range(rounds):
        command = [sys.executable, "-W", "ignore", "-c", IMPORT.format(statement)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        runs.append([float(number) for number in out.split()])
    seconds, rss_mb = np.median(runs, axis=0)
    return {"seconds": round(float(seconds), 3), "rss_mb": round(float(rss_mb), 1)}


def microseconds(call: Callable[[], object], seconds: float = 0.5) -> float:
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return round(float(np.median(times)) * 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = {f"import {name}": measure_import(statement) for name, statement in MODULES.items()}

    import tensorflow as tf
    from featserve_client.wire import serving_pb2 as wire
    from featserve_client.wire import tensors as _tensors
    from tensorflow_serving.apis import predict_pb2

    def build(images: np.ndarray) -> bytes:
        return _tensors.encode_predict_request(wire.ModelSpec(name="m"), {"images": _tensors.encode_tensor(images)})

    def build_official(images: np.ndarray) -> bytes:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["images"].CopyFrom(tf.make_tensor_proto(images))
        return bytes(request.SerializeToString())

    def parse_official(raw: bytes) -> np.ndarray:
        return np.asarray(tf.make_ndarray(predict_pb2.PredictResponse.FromString(raw).outputs["y"]))

    for count in (1, 32):
        images = np.random.default_rng(0).integers(0, 256, (count, 224, 224, 3), np.uint8)
        assert build_official(images)
        results[f"build {count} images, us"] = {
            "featserve_client": microseconds(lambda images=images: build(images)),
            "tensorflow-serving-api": microseconds(lambda images=images: build_official(images)),
        }
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
            np.testing.assert_array_equal(_tensors.decode_predict_response(raw)[1]["y"], parse_official(raw))
            results[f"parse {size * 4} bytes of {form}, us"] = {
                "featserve_client": microseconds(lambda raw=raw: _tensors.decode_predict_response(raw)),
                "tensorflow-serving-api": microseconds(lambda raw=raw: parse_official(raw)),
            }
    if arguments.json:
        print(json.dumps(results))
    else:
        for name, row in results.items():
            print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in row.items()))


if __name__ == "__main__":
    main()
