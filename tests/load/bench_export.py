"""Compares an exported version with `model.export()` of the same network, side by side in one process.

Each graph is loaded the way a server loads it, and the two take turns; the ratio is the median over the rounds.
"""

from __future__ import annotations

import argparse
import collections
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import skimage

# As a server does: TensorFlow itself leaves oneDNN off on CPUs without VNNI, and asks while it is imported.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from featserve_export import ExportError, ExportOptions, export_backbone  # noqa: E402
from featserve_export.sources.load import load_live_model  # noqa: E402
from tensorflow.core.protobuf import config_pb2  # noqa: E402

BACKBONES = ("efficientnet_lite0", "mobilenet", "resnet50", "inception_v3", "vgg16")
PRECISIONS = ("float32", "bfloat16", "int8")
REAL_WEIGHTS = ("efficientnet_lite0", "mobilenet")
PHOTOS = Path(skimage.__file__).parent / "data"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", default=",".join(BACKBONES))
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--profile", action="store_true", help="also print what both graphs spend their time on")
    options = parser.parse_args()
    print(
        "| backbone | precision | images/s at batch 1 | | at batch 16 | | cosine to Keras | max abs. difference "
        "| MB | load s | layers in float32 |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for backbone in options.backbones.split(","):
        with tempfile.TemporaryDirectory() as folder:
            compare(backbone, Path(folder), options.precisions.split(","), options.rounds, options.profile)


def compare(backbone: str, folder: Path, precisions: Sequence[str], rounds: int, profiled: bool) -> None:
    """Prints one backbone's rows: what `model.export()` gives → what the exported version gives, and their ratio."""
    weights = "imagenet" if backbone in REAL_WEIGHTS else "random"
    alpha = 0.25 if backbone == "mobilenet" else None
    live = load_live_model(ExportOptions(backbone, weights=weights, alpha=alpha))
    images = keras.Input((*live.image_size, 3))
    keras.Model(images, live.model(live.preprocess(images))).export(folder / "keras", verbose=False)
    theirs, their_load_s = load(folder / "keras", "serving_default")
    size = megabytes(folder / "keras")
    for precision in precisions:
        try:
            report = export_backbone(
                ExportOptions(
                    backbone,
                    weights=weights,
                    alpha=alpha,
                    precision=precision,
                    calibrate=PHOTOS if precision == "int8" else None,
                    model_root=folder,
                    model_name=precision,
                )
            )
        except ExportError as error:
            print(f"| {backbone} | {precision} | refused: {error} {'| ' * 9}", flush=True)
            continue
        ours, load_s = load(report.path, "float_images")
        cells = []
        for batch in (1, 16):
            data = np.random.default_rng(0).uniform(0, 255, (batch, *live.image_size, 3)).astype(np.float32)
            ratio, (our_speed, their_speed) = race(ours, theirs, data, rounds)
            cells += [f"{their_speed:.1f} → {our_speed:.1f}", f"{ratio:.2f} ×"]
        closeness = min(report.closeness.values(), key=lambda one: one.cosine)
        cosine, in_float = f"{closeness.cosine:.6f}", ""
        if precision == "int8":
            quantization = report.manifest["quantization"]
            (found,) = quantization["cosine"].values()
            cosine = f"{found['mean']:.4f}, {found['lowest']:.4f}"
            layers = quantization["layers"]
            in_float = f"{sum(layer['precision'] != 'int8' for layer in layers)} of {len(layers)}"
        print(
            f"| {backbone} ({'ImageNet' if weights == 'imagenet' else weights}) | {precision} | {' | '.join(cells)} "
            f"| {cosine} | {closeness.max_abs_difference:.1e} | {size:.1f} → {megabytes(report.path):.1f} "
            f"| {their_load_s:.1f} → {load_s:.1f} | {in_float} |",
            flush=True,
        )
        if profiled:
            print("model.export():", profile(folder / "keras", "serving_default"))
            print(f"{precision}:", profile(report.path, "float_images"))


Run = Callable[[np.ndarray], object]


def load(directory: Path, signature: str) -> tuple[Run, float]:
    """Loads one signature into a session of its own; the seconds include the first answer."""
    start = time.perf_counter()
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session.graph.as_default():
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(directory))
    definition = meta_graph.signature_def[signature]
    (feed,) = definition.inputs.values()
    run = session.make_callable([info.name for info in definition.outputs.values()], [feed.name])
    sides = [dimension.size for dimension in feed.tensor_shape.dim][1:]
    run(np.zeros((1, *sides), np.float32))
    return run, time.perf_counter() - start


def profile(directory: Path, signature: str) -> str:
    """The shares of the time of kernels, at batch 16; kernels that run at once count each."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(directory))
        definition = meta_graph.signature_def[signature]
        (feed,) = definition.inputs.values()
        fetches = [info.name for info in definition.outputs.values()]
        feeds = {feed.name: np.ones((16, *(dimension.size for dimension in feed.tensor_shape.dim[1:])), np.float32)}
        options = config_pb2.RunOptions(trace_level=config_pb2.RunOptions.SOFTWARE_TRACE)
        metadata = config_pb2.RunMetadata()
        session.run(fetches, feeds)
        session.run(fetches, feeds, options=options, run_metadata=metadata)
    seconds: collections.Counter[str] = collections.Counter()
    for node in (node for device in metadata.step_stats.dev_stats for node in device.node_stats):
        kernel = node.timeline_label.partition("=")[2].partition("(")[0].strip()
        if kernel != "BatchFunction":
            seconds[kernel] += node.op_end_rel_micros / 1e6
    return ", ".join(f"{kernel} {100 * spent / seconds.total():.1f} %" for kernel, spent in seconds.most_common(8))


def race(ours: Run, theirs: Run, data: np.ndarray, rounds: int) -> tuple[float, tuple[float, float]]:
    """The median of their time ÷ our time, and both speeds in images/s."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 2):
        for run, times in zip((ours, theirs), seconds, strict=True):
            start = time.perf_counter()
            run(data)
            times.append(time.perf_counter() - start)
    a, b = (times[2:] for times in seconds)
    ratio = statistics.median(y / x for x, y in zip(a, b, strict=True))
    return ratio, (len(data) / statistics.median(a), len(data) / statistics.median(b))


def megabytes(directory: Path) -> float:
    """The size of graph and variables."""
    files = [directory / "saved_model.pb", *(directory / "variables").glob("*")]
    return sum(file.stat().st_size for file in files) / 1e6


if __name__ == "__main__":
    main()
