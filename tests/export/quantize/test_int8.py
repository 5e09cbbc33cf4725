import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from featserve_export.graph.weights import take_constants, with_constants
from featserve_export.quantize import (
    QuantizationError,
    computes_eight_bits,
    held_out_photos,
    kernel_magnitudes,
    quantize_graph,
    read_photos,
)
from featserve_export.quantize.graph import FloatGraph
from featserve_export.quantize.layers import find_layers
from featserve_export.quantize.photos import one_color_warning
from featserve_export.quantize.ranges import METHODS, calibrate
from featserve_export.quantize.rewrite import quantize
from featserve_export.quantize.rounding import Rounder, round_weights, second_moments
from PIL import Image

SIZE = 8
needs_vnni = pytest.mark.skipif(not computes_eight_bits(), reason="this CPU has no VNNI")
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 255, (16, SIZE, SIZE, 3)).astype(np.float32)


def kernel(*shape):
    return (np.random.default_rng(len(shape) + shape[-1]).normal(size=shape) / np.sqrt(np.prod(shape[:3]))).astype("f4")


def convolve(x, out=16, size=3, stride=1, padding="SAME"):
    x = tf.nn.conv2d(x, kernel(size, size, x.shape[-1], out), stride, padding)
    return tf.nn.bias_add(x, np.linspace(-30, 30, out, dtype="f4"))


def graph_of(build):
    """GraphDef of `build(images)`: its results are the outputs `out_0`, `out_1`, …."""
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, (None, SIZE, SIZE, 3), name="images")
        results = build(images)
        results = results if isinstance(results, tuple) else (results,)
        names = [tf.identity(result, name=f"out_{index}").op.name for index, result in enumerate(results)]
    return graph.as_graph_def(), names


def run(graph_def, names, images=IMAGES):
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(graph_def, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        return session.run([f"{name}:0" for name in names], {"images:0": images})


def rewrite(build, method="min-max"):
    graph_def, names = graph_of(build)
    graph = FloatGraph(graph_def, names)
    layers, _ = find_layers(graph)
    tensors = {name for layer in layers for name in (layer.input, layer.output, layer.residual) if name}
    ranges = calibrate(graph.graph_def, "images", sorted(tensors), [IMAGES])
    moments = second_moments(graph.graph_def, "images", layers, [IMAGES])
    return graph_def, quantize(graph, layers, ranges, Rounder(moments), method), names


def relu6_mobile_block(x):
    x = tf.nn.relu6(convolve(x, 16, 1) / 8)
    wide = tf.nn.relu6(tf.nn.depthwise_conv2d(x, kernel(3, 3, 16, 1), (1, 1, 1, 1), "SAME") + np.ones(16, "f4"))
    return wide


def linear_residual(x):
    x = convolve(x)
    return x + convolve(tf.nn.relu(convolve(x, 32, 1)), 16, 1)


def projected_residual(x):
    x = tf.nn.relu(convolve(x))
    return tf.nn.relu(convolve(x, 32, 1, 2) + convolve(tf.nn.relu(convolve(x, 16, 3, 2)), 32, 1))


def inception(x):
    x = tf.nn.relu(convolve(x))
    pooled = convolve(tf.nn.avg_pool2d(x, 3, 1, "SAME"), 8, 1)
    joined = tf.nn.relu(tf.concat([convolve(x, 8, 1), pooled], 3))
    return tf.nn.relu(convolve(tf.nn.max_pool2d(joined, 2, 2, "VALID"), 16, 3))


def padded(x, channels=16):
    x = tf.nn.relu(convolve(tf.pad(x, [(0, 0), (3, 3), (3, 3), (0, 0)]), channels, 7, 2, "VALID"))
    return tf.nn.max_pool2d(tf.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]), 3, 2, "VALID")


def dense(x):
    x = tf.reshape(tf.nn.relu(convolve(x)), (-1, SIZE * SIZE * 16))
    return tf.nn.relu(tf.matmul(x, kernel(SIZE * SIZE * 16, 1, 1, 32)[:, 0, 0]) + np.ones(32, "f4"))


# Float operations, and what the eight-bit graph has in their place (first input and results aside).
PATTERNS = {
    "convolution, bias, relu": (lambda x: tf.nn.relu(convolve(x)), {"conv": 1}),
    "convolution without relu": (lambda x: convolve(x), {"conv": 1}),
    "strided": (lambda x: tf.nn.relu(convolve(x, 16, 3, 2)), {"conv": 1}),
    "relu6 and depthwise": (relu6_mobile_block, {"conv": 1, "depthwise": 1, "RealDiv": 1}),
    "linear residual": (linear_residual, {"conv": 3, "sums": 1}),
    "projected residual": (projected_residual, {"conv": 4, "sums": 1}),
    "pooling and concatenation": (inception, {"conv": 4, "QuantizedAvgPool": 1, "QuantizedMaxPool": 1, "ConcatV2": 1}),
    "explicit padding": (padded, {"conv": 1, "Bitcast": 2, "QuantizedMaxPool": 1}),
    "padding of channels that fill no words": (lambda x: padded(x, 12), {"conv": 1, "MaxPool": 1}),
    "matrix product": (dense, {"conv": 2}),
}
_ALWAYS = {"Const", "Placeholder", "QuantizeV2", "Dequantize", "Identity", "Mul", "AddV2", "Sub", "Pad", "Reshape"}


def operations(graph_def):
    found = Counter()
    for node in graph_def.node:
        if node.name.startswith("int8/guard"):
            continue
        found["sums"] += b"Sum" in node.attr["fused_ops"].list.s
        short = {"_FusedQuantizedConv2D": "conv", "_FusedQuantizedDepthwiseConv2D": "depthwise"}.get(node.op, node.op)
        if short not in _ALWAYS:
            found[short] += 1
    return {name: count for name, count in found.items() if count}


@needs_vnni
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_becomes_its_quantised_operation_and_keeps_its_values(pattern):
    build, expected_operations = PATTERNS[pattern]
    graph_def, rewritten, names = rewrite(build)
    found = operations(rewritten)
    if pattern == "relu6 and depthwise":  # the division between convolution and ReLU6 splits that layer
        found.pop("Relu6", None)
    assert found == expected_operations
    (expected,), (received,) = run(graph_def, names), run(rewritten, names)
    spread = expected.max() - min(expected.min(), 0)
    assert np.abs(received - expected).max() <= 0.03 * spread
    assert np.sqrt(np.mean((received - expected) ** 2)) <= 0.008 * spread


@needs_vnni
@pytest.mark.parametrize("pattern", ["projected residual", "pooling and concatenation", "explicit padding"])
def test_neighbours_hand_over_eight_bit_tensors(pattern):
    _, rewritten, _ = rewrite(PATTERNS[pattern][0])
    counts = Counter(node.op for node in rewritten.node)
    assert (counts["QuantizeV2"], counts["Dequantize"]) == (1, 1)


@needs_vnni
def test_numbers_of_one_pixel_by_hand():
    # 2 a - b and a + b - 20 over channels that reach 200: the steps are 200/255 in and 340/255, 240/255 out.
    weights = np.zeros((1, 1, 3, 2), np.float32)
    weights[0, 0, :, 0] = 2, -1, 0
    weights[0, 0, :, 1] = 1, 1, 0
    images = np.zeros((8, SIZE, SIZE, 3), np.float32)
    images[:, 0, 0] = 200, 60, 10
    images[:, 0, 1] = 100, 160, 10

    def build(x):
        return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, weights, 1, "SAME"), np.array([0, -20], "f4")))

    graph_def, names = graph_of(build)
    graph = FloatGraph(graph_def, names)
    layers, _ = find_layers(graph)
    ranges = calibrate(graph_def, "images", [layers[0].input, layers[0].output], [images])
    assert ranges["images"].limits["min-max"] == 200
    assert ranges[layers[0].output].limits["min-max"] == 340
    rewritten = quantize(graph, layers, ranges, Rounder({}), "min-max")
    (received,) = run(rewritten, names, images)
    np.testing.assert_allclose(received[0, 0, 0], [340, 240], atol=1.5)
    np.testing.assert_allclose(received[0, 0, 1], [40, 240], atol=1.5)
    np.testing.assert_allclose(received[0, 5, 5], [0, 0])
    np.testing.assert_allclose(received * 255 / 340, np.rint(received * 255 / 340), atol=1e-4)


@needs_vnni
def test_what_primitives_are_found_by_is_a_weight_and_no_constant_of_each_signature():
    _, quantized, names = rewrite(projected_residual)
    expected = run(quantized, names)
    weights = {}
    take_constants(quantized, weights, kernel_magnitudes(quantized))
    assert sorted(value.size for value in weights.values()) == [16, 16, 16, 32, 32]  # the check's own among them
    assert all((value > 0).all() for value in weights.values())
    np.testing.assert_array_equal(run(with_constants(quantized, weights), names), expected)


@needs_vnni
def test_a_summand_that_is_an_output_too_is_read_before_it_is_overwritten():
    def build(x):
        x = tf.nn.relu(convolve(x))
        return x, tf.nn.relu(x + convolve(tf.nn.relu(convolve(x)), 16, 1))

    graph_def, rewritten, names = rewrite(build)
    assert operations(rewritten)["sums"] == 1
    expected = run(graph_def, names)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(rewritten, name="")
    with tf.compat.v1.Session(graph=graph) as session:
        for _ in range(50):
            received = session.run([f"{name}:0" for name in names], {"images:0": IMAGES})
            for a, b in zip(expected, received, strict=True):
                assert np.abs(a - b).max() <= 0.02 * a.max()


def test_an_addition_whose_summand_is_read_later_is_not_fused():
    def build(x):
        x = tf.nn.relu(convolve(x))
        total = tf.nn.relu(x + convolve(x, 16, 1))
        return x * tf.reduce_mean(total)

    layers, _ = find_layers(FloatGraph(*graph_of(build)))
    assert [layer.residual for layer in layers] == [None, None]


@needs_vnni
def test_a_result_does_not_depend_on_the_batch_and_the_graph_not_on_the_run():
    graph_def, names = graph_of(inception)
    first, second = (quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES) for _ in range(2))
    assert first.graph_def.SerializeToString(deterministic=True) == second.graph_def.SerializeToString(
        deterministic=True
    )
    assert first.report == second.report
    together = run(first.graph_def, names)[0]
    alone = np.concatenate([run(first.graph_def, names, image[None])[0] for image in IMAGES])
    np.testing.assert_array_equal(together, alone)


@needs_vnni
def test_the_report_says_what_was_done():
    graph_def, names = graph_of(inception)
    done = []
    report = quantize_graph(
        graph_def, "images", {"mixed": names[0]}, IMAGES, progress=lambda *step: done.append(step)
    ).report
    assert (report.photos, report.held_out) == (12, 4)
    assert set(report.methods) == set(METHODS)
    assert report.method == max(METHODS, key=lambda name: report.methods[name])
    assert report.cosine["mixed"]["lowest"] >= 0.99
    assert [layer.operation for layer in report.layers] == ["Conv2D"] * 4
    assert all(0.9 < layer.cosine_alone <= 1 for layer in report.layers)
    assert report.as_dict()["layers"][0]["precision"] == "int8"
    assert {task for task, _, _ in done} >= {"ranges", "weights", "methods", "sensitivity"}


@needs_vnni
def test_features_that_drift_are_refused_with_the_worst_layers_named():
    graph_def, names = graph_of(inception)
    with pytest.raises(QuantizationError, match=r"received 0\.\d+.*the worst alone: \S*Conv2D"):
        quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES, min_cosine=0.9999999)


@needs_vnni
def test_classes_that_change_are_refused():
    graph_def, names = graph_of(inception)

    def classify(features):  # any rounding changes half of these classes
        return np.eye(2)[(1000 * features.sum((1, 2, 3))).astype(int) % 2]

    sure = quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES, crops=IMAGES, classify=lambda x: x.mean((1, 2)))
    assert (sure.report.same_class, sure.report.crops) == (1.0, 16)
    with pytest.raises(QuantizationError, match=r"same top class for 97% of crops, received .* the worst alone: "):
        quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES, crops=IMAGES, classify=classify)


@needs_vnni
def test_the_most_sensitive_layers_go_back_to_float_until_the_features_are_close():
    def build(x):
        # One channel a thousand times the others: the few bits left for those are what turns the features.
        x = tf.nn.relu(convolve(x))
        uneven = kernel(1, 1, 16, 16) * np.where(np.arange(16) == 0, 1000, 1).astype("f4")
        x = tf.nn.relu(tf.nn.conv2d(x, uneven, 1, "SAME"))
        even = kernel(1, 1, 16, 16) / np.where(np.arange(16) == 0, 1000, 1).astype("f4")[:, None]
        x = tf.nn.relu(tf.nn.conv2d(x, even, 1, "SAME"))
        for _ in range(6):
            x = tf.nn.relu(convolve(x, 16, 1))
        return x

    graph_def, names = graph_of(build)
    easy = quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES, min_cosine=0.5).report
    worst = min(easy.layers, key=lambda layer: layer.cosine_alone)
    assert all(layer.precision == "int8" for layer in easy.layers)
    lowest = easy.cosine["x"]["lowest"]
    strict = quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES, min_cosine=lowest).report
    floats = [layer for layer in strict.layers if layer.precision == "float32"]
    assert worst.name in [layer.name for layer in floats]
    assert all(layer.reason for layer in floats)
    assert strict.cosine["x"]["lowest"] > lowest
    assert strict.int8_share < 1


def test_operations_without_a_kernel_are_named():
    def build(x):
        return tf.nn.relu(tf.nn.conv2d(x, kernel(3, 3, 3, 8), 1, "SAME", dilations=2, name="wide"))

    graph_def, names = graph_of(build)
    with pytest.raises(QuantizationError, match=r"Conv2D \S*wide\S*: it is dilated"):
        quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES)


def test_too_few_images_are_refused():
    graph_def, names = graph_of(lambda x: tf.nn.relu(convolve(x)))
    with pytest.raises(QuantizationError, match="at least 8 calibration photos, received 7"):
        quantize_graph(graph_def, "images", {"x": names[0]}, IMAGES[:7])


def test_weights_without_moments_are_rounded_to_the_nearest():
    weights = np.array([1.0, -0.5, 0.26, 0.0], np.float32).reshape(1, 1, 2, 2)
    rounded = round_weights(weights, np.array([3.0, 4.0], np.float32), False, None)
    # channel 0 holds 1 and 0.26, channel 1 holds -0.5 and 0
    np.testing.assert_array_equal(rounded.whole[0, 0], [[127, -127], [33, 0]])
    np.testing.assert_array_equal(rounded.magnitude, [1.0, 0.5])
    np.testing.assert_array_equal(rounded.bias, [3, 4])


def test_weights_are_rounded_so_that_outputs_stay():
    rng = np.random.default_rng(1)
    inputs = 1 + 0.05 * rng.normal(size=(500, 9))
    weights = rng.normal(size=(3, 3, 1, 1)).astype(np.float32)
    bias = np.zeros(1, np.float32)
    augmented = np.concatenate([inputs, np.ones((500, 1))], 1)
    moments = (augmented.T @ augmented / 500)[None]

    def error(rounded):
        used = rounded.whole.reshape(-1) * rounded.magnitude / 127
        return np.mean((inputs @ used + rounded.bias - inputs @ weights.reshape(-1)) ** 2)

    nearest = error(round_weights(weights, bias, True, None))
    assert error(round_weights(weights, bias, True, moments)) < nearest / 20


def test_ranges_by_each_method():
    values = np.zeros((1, 200, 200, 1), np.float32)
    values[0, :, :, 0] = np.linspace(-1, 3, 40000).reshape(200, 200)
    values[0, 0, 0], values[0, 0, 1] = 42, -40
    with tf.Graph().as_default() as graph:
        images = tf.compat.v1.placeholder(tf.float32, (None, 200, 200, 1), name="images")
        tf.identity(images, name="x")
    found = calibrate(graph.as_graph_def(), "images", ["x"], [values])["x"]
    assert found.middle[0] == pytest.approx(1, abs=1e-3)
    assert found.limits["min-max"] == pytest.approx(82, abs=1e-2)
    assert found.limits["percentile"] == pytest.approx(4, abs=0.1)
    assert 4 <= found.limits["mean-squared-error"] <= 82
    np.testing.assert_allclose(found.offset(np.array([4], np.float32)), [1], atol=1e-3)


def photo(path, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save(path)


def test_corrupt_photos_are_skipped_and_counted(tmp_path):
    for index in range(12):
        photo(tmp_path / f"{index:02}.png", index)
    (tmp_path / "03.png").write_bytes(b"no image")
    (tmp_path / "07.png").write_bytes((tmp_path / "08.png").read_bytes()[:200])
    (tmp_path / "notes.txt").write_text("not a photo")
    photos = read_photos(tmp_path, (16, 24), count=64)
    assert photos.images.shape == (10, 16, 24, 3)
    assert sorted(Path(name).name for name in photos.skipped) == ["03.png", "07.png"]
    assert photos.warnings == ()
    again = read_photos(f"{tmp_path}/*.png", (16, 24), count=64)
    np.testing.assert_array_equal(photos.images, again.images)
    assert photos.crops.shape == (200, 16, 24, 3)
    np.testing.assert_array_equal(photos.crops, again.crops)


def test_crops_are_of_photos_that_set_nothing(tmp_path):
    for index in range(8):
        Image.new("RGB", (60, 40), (index * 10, 0, 0)).save(tmp_path / f"{index}.png")
    photos = read_photos(tmp_path, (8, 8), count=8)
    assert set(photos.crops[..., 0].flat) == {30.0, 70.0}
    np.testing.assert_array_equal(held_out_photos(photos.images), photos.images[[3, 7]])


def test_photos_are_cropped_as_the_requests_will_be(tmp_path):
    for index in range(8):
        wide = Image.new("RGB", (64, 16), (200, 0, 0))
        wide.paste((0, 100, 0), (24, 0, 40, 16))
        wide.save(tmp_path / f"{index}.png")
    photos = read_photos(tmp_path, (16, 16), count=8, crop_to_aspect_ratio=True)
    assert (photos.images == (0, 100, 0)).all()


def test_fewer_photos_than_there_are_spread_over_them(tmp_path):
    for index in range(16):
        Image.new("RGB", (8, 8), (index * 10, 0, 0)).save(tmp_path / f"{index:02}.png")
    photos = read_photos(tmp_path, (8, 8), count=8)
    assert photos.images[:, 0, 0, 0].tolist() == [index * 10.0 for index in range(0, 16, 2)]


@pytest.mark.parametrize(("photos", "count", "sentence"), [
    (0, 64, "has none"),
    (7, 64, "at least 8 photos to calibrate with, received 7"),
    (9, 7, "--calibration-images of at least 8, received 7"),
])  # fmt: skip
def test_too_few_photos_are_refused(tmp_path, photos, count, sentence):
    for index in range(photos):
        photo(tmp_path / f"{index}.png", index)
    with pytest.raises(QuantizationError, match=sentence):
        read_photos(tmp_path, (8, 8), count=count)


def test_photos_of_one_color_are_warned_about(tmp_path):
    for index in range(8):
        Image.new("RGB", (20, 20), (90, 160, 30)).save(tmp_path / f"{index}.png")
    (warning,) = read_photos(tmp_path, (8, 8), count=8).warnings
    assert "one color" in warning
    assert one_color_warning(IMAGES) == ()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8")
    _, rewritten, _ = rewrite(projected_residual)
    (path / "graph.pb").write_bytes(rewritten.SerializeToString())
    np.save(path / "images.npy", IMAGES)
    np.save(path / "expected.npy", run(rewritten, ["out_0"])[0])
    return path


def in_another_process(path, **environment):
    program = """
import sys, numpy as np, tensorflow as tf
from tensorflow.core.framework import graph_pb2
graph_def = graph_pb2.GraphDef.FromString(open(sys.argv[1] + "/graph.pb", "rb").read())
with tf.Graph().as_default() as graph:
    tf.graph_util.import_graph_def(graph_def, name="")
received = tf.compat.v1.Session(graph=graph).run("out_0:0", {"images:0": np.load(sys.argv[1] + "/images.npy")})
np.testing.assert_array_equal(received, np.load(sys.argv[1] + "/expected.npy"))
print("equal")
"""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@needs_vnni
def test_a_cpu_without_vnni_gets_an_error_instead_of_wrong_numbers(saved):
    result = in_another_process(saved, ONEDNN_MAX_CPU_ISA="AVX2")
    assert result.returncode != 0
    assert "needs a CPU with VNNI" in result.stderr


@needs_vnni
def test_the_same_numbers_with_onednn_rewriting_switched_off(saved):
    result = in_another_process(saved, TF_ENABLE_ONEDNN_OPTS="0")
    assert "equal" in result.stdout, result.stderr[-2000:]
