"""Times bulk extraction: JPEGs on disk to features on disk, beside the usual Keras loop, on this machine.

python tests/load/bench_bulk.py [--models A,B] [--images N] [--rounds N]

Three take turns, with the same photos and the same random weights:
Keras loop: `load_img`, `preprocess_input`, `predict`, one photo after the other.
featserve extract: the command, from its start to its end, through one embedded server.
server: the same server when it is sent the same encoded photos from memory in ready-made requests.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from featserve_client.wire import serving_pb2 as wire
from featserve_client.wire.tensors import encode_predict_request, encode_strings
from featserve_load import photos
from featserve_load.payload import PREDICT
from featserve_load.server import ServerProcess


@dataclass(frozen=True)
class Network:
    """A network of the comparison."""

    builder: str
    preprocessing: str
    #: Photos at most: what keeps a round below a minute.
    most: int
    alpha: float | None = None


NETWORKS = {
    "mobilenet": Network("MobileNet", "mobilenet", 100_000, alpha=0.25),
    "resnet50": Network("ResNet50", "resnet50", 400),
    "vgg16": Network("VGG16", "vgg16", 200),
}
#: Enough that start and end of the command, half a second, are below 2 % of its time.
IMAGES = 20_000
LOOP_IMAGES = 100
REQUEST_IMAGES = 32
REQUESTS_IN_FLIGHT = 8


@dataclass(frozen=True, kw_only=True)
class Result:
    """Images per second of one network, a number a round."""

    model: str
    images: int
    loop: list[float]
    bulk: list[float]
    server: list[float]

    @property
    def speedup(self) -> float:
        """How many times as fast as the Keras loop the bulk command is."""
        return statistics.median(np.divide(self.bulk, self.loop).tolist())

    @property
    def reached(self) -> float:
        """The part of the server's own throughput that the bulk command reaches."""
        return statistics.median(np.divide(self.bulk, self.server).tolist())


def measure(models: Sequence[str] = tuple(NETWORKS), *, images: int = IMAGES, rounds: int = 3) -> list[Result]:
    """Measures networks one after the other; see the module."""
    with tempfile.TemporaryDirectory(prefix="featserve-bulk-") as temporary:
        folder = Path(temporary)
        say(f"writing {images} photos")
        paths = write_photos(folder / "photos", images)
        return [_measure(folder, name, paths[: NETWORKS[name].most], rounds) for name in models]


def _measure(folder: Path, name: str, paths: Sequence[str], rounds: int) -> Result:
    say(f"{name}: exporting")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras
    from featserve_export import ExportOptions, export_backbone

    network = NETWORKS[name]
    options: dict[str, Any] = {} if network.alpha is None else {"alpha": network.alpha}
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, network.builder)(weights=None, include_top=False, pooling="avg", **options)
    preprocess = getattr(keras.applications, network.preprocessing).preprocess_input
    weights = folder / f"{name}.weights.h5"
    model.save_weights(weights)
    export_backbone(ExportOptions(name, pooling="avg", weights=str(weights), model_root=folder / "models", **options))
    listing = folder / f"{name}.list"
    output = folder / f"{name}.npz"
    height, width = model.input_shape[1:3] if model.input_shape[1] else (224, 224)

    def loop(some: Sequence[str]) -> np.ndarray:
        rows = []
        for path in some:
            pixels = keras.utils.img_to_array(keras.utils.load_img(path, target_size=(height, width)))
            rows.append(model.predict(preprocess(pixels[np.newaxis]), verbose=0)[0])
        return np.stack(rows)

    def bulk(some: Sequence[str]) -> None:
        listing.write_text("\n".join(some))
        output.unlink(missing_ok=True)
        command = [sys.executable, "-m", "featserve_client.cli", "extract", f"@{listing}", "--quiet"]
        command += ["--server", server.target, "--model", name, "--output", str(output)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=600)

    def serve(requests: Sequence[bytes]) -> None:
        running: deque[grpc.Future] = deque()
        for request in requests:
            if len(running) == REQUESTS_IN_FLIGHT:
                running.popleft().result()
            running.append(call.future(request, timeout=300))
        for future in running:
            future.result()

    with (
        ServerProcess(folder / "models" / name, name) as server,
        grpc.insecure_channel(server.target, [("grpc.max_receive_message_length", -1)]) as channel,
    ):
        call = channel.unary_unary(PREDICT)
        spec = wire.ModelSpec(name=name, signature_name="encoded")
        requests = []
        for start in range(0, len(paths), REQUEST_IMAGES):
            files = [Path(path).read_bytes() for path in paths[start : start + REQUEST_IMAGES]]
            requests.append(encode_predict_request(spec, {"image_bytes": encode_strings(files, (len(files),))}))
        say(f"{name}: warming up, and comparing the features")
        theirs = loop(paths[:8])
        bulk(paths[:8])
        serve(requests[:2])
        with np.load(output) as archive:
            ours = archive[next(key for key in archive.files if archive[key].shape == theirs.shape)]
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3 * float(np.abs(theirs).max()))
        result = Result(model=name, images=len(paths), loop=[], bulk=[], server=[])
        for turn in range(rounds):
            for speeds, run, work, count in (
                (result.loop, loop, paths[:LOOP_IMAGES], len(paths[:LOOP_IMAGES])),
                (result.bulk, bulk, paths, len(paths)),
                (result.server, serve, requests, len(paths)),
            ):
                start_s = time.perf_counter()
                run(work)  # type: ignore[operator]
                speeds.append(count / (time.perf_counter() - start_s))
            say(
                f"{name}: round {turn + 1} of {rounds}, images/s: Keras loop {result.loop[-1]:.1f}, "
                f"featserve extract {result.bulk[-1]:.1f}, server {result.server[-1]:.1f}"
            )
    return result


def write_photos(folder: Path, count: int) -> list[str]:
    """Writes JPEGs of several sizes: scikit-image's photos, each time another part of one."""
    folder.mkdir()
    sized = [photos.sized(photo, side) for side in photos.SIDES for photo in photos.packaged()]
    dice = np.random.default_rng(0)
    for number in range(count):
        photo = sized[number % len(sized)]
        left, top = (int(dice.integers(0, length // 8 + 1)) for length in photo.size)
        part = photo.crop((left, top, left + photo.width * 7 // 8, top + photo.height * 7 // 8))
        (folder / f"{number:06d}.jpg").write_bytes(photos.jpeg(part))
    return sorted(map(str, folder.iterdir()))


def table(results: Sequence[Result]) -> str:
    """Returns medians as markdown."""
    lines = [
        "| model | JPEGs | Keras loop, images/s | featserve extract, images/s | ÷ Keras loop "
        "| server, images/s | ÷ server |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        loop, bulk, server = (statistics.median(each) for each in (result.loop, result.bulk, result.server))
        lines.append(
            f"| {result.model} | {result.images} | {loop:.1f} | {bulk:.1f} | {result.speedup:.1f} "
            f"| {server:.1f} | {result.reached:.2f} |"
        )
    return "\n".join(lines)


def say(text: str) -> None:
    """Tells how far it is."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measures what the options say; prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(NETWORKS), metavar="A,B", help="(default: %(default)s)")
    most = ", ".join(f"{name} {network.most}" for name, network in NETWORKS.items() if network.most < IMAGES)
    parser.add_argument(
        "--images", type=int, default=IMAGES, metavar="N", help=f"(default: %(default)s; at most: {most})"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="(default: %(default)s)")
    arguments = parser.parse_args()
    models = arguments.models.split(",")
    if unknown := set(models) - set(NETWORKS):
        parser.error(f"--models: expected some of {', '.join(NETWORKS)}, received {', '.join(sorted(unknown))}")
    if arguments.images < 8 or arguments.rounds < 1:
        parser.error("--images must be at least 8, and --rounds at least 1")
    print(table(measure(models, images=arguments.images, rounds=arguments.rounds)))


if __name__ == "__main__":
    main()
