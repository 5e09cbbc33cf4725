"""Times the first real request to a warmed server beside the median of the next 50.

python tests/load/bench_warmup.py MODEL_DIR [--rounds N]

MODEL_DIR is an exported version, such as build/models/mobilenet/1. Each round starts a server of its own.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from featserve_client import FeatureClient
from featserve_serving import create_server

FOLLOWING = 50


def measure(model_root: Path, model: str, image: bytes) -> tuple[float, float]:
    """Seconds of the first request, and of the median of the following."""
    request = {"image_bytes": np.array([image], object)}
    times = []
    with (
        create_server(model_root=model_root) as server,
        FeatureClient(f"127.0.0.1:{server.port}", model=model) as client,
    ):
        client.predict({}, signature="manifest")  # connects
        for _ in range(1 + FOLLOWING):
            start = time.perf_counter()
            client.predict(request, signature="encoded")
            times.append(time.perf_counter() - start)
    return times[0], float(np.median(times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, metavar="MODEL_DIR")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    directory = options.model.resolve()
    manifest = json.loads((directory / "assets.extra/manifest.json").read_text())
    with np.load(directory / "assets.extra/golden.npz") as golden:
        image = golden["encoded_0"].tobytes()
    ratios = []
    for number in range(options.rounds):
        first, median = measure(directory.parents[1], manifest["model"], image)
        ratios.append(first / median)
        print(f"round {number + 1}: first {first * 1e3:.2f} ms, next {median * 1e3:.2f} ms, ratio {ratios[-1]:.2f}")
    print(f"median ratio {np.median(ratios):.2f}")


if __name__ == "__main__":
    main()
