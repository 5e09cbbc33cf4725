"""Closeness with real weights, on crops of photos that calibration has not seen."""

import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
from featserve_export.graph.freeze import INPUT_NAME, freeze
from featserve_export.quantize import QuantizationError, computes_eight_bits, quantize_graph, read_photos
from featserve_export.quantize.search import _run as run_batches
from featserve_export.quantize.sensitivity import cosines
from featserve_export.sources.efficientnet_lite import EfficientNetLite0, preprocess_input
from PIL import Image

pytestmark = pytest.mark.skipif(not computes_eight_bits(), reason="this CPU has no VNNI")
HELD_OUT = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png")
CALIBRATION = (
    *("brick.png", "clock_motion.png", "coins.png", "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg"),
    *("ihc.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg"),
)
PHOTOS = Path(skimage.data.__file__).parent
KERAS_HOME = Path(os.environ.get("KERAS_HOME", Path(__file__).parents[4] / "shared" / "keras-home"))
MOBILENET_WEIGHTS = KERAS_HOME / "models" / "mobilenet_2_5_224_tf.h5"


def crops(names, count, seed):
    rng = np.random.default_rng(seed)
    photos = [Image.open(PHOTOS / name).convert("RGB") for name in names]
    images = []
    for index in range(count):
        photo = photos[index % len(photos)]
        side = int(min(photo.size) * rng.uniform(0.4, 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in photo.size)
        images.append(photo.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC))
    return np.stack([np.asarray(image, np.float32) for image in images])


def efficientnet_lite0():
    return EfficientNetLite0(), "top_activation", preprocess_input


def mobilenet():
    if not MOBILENET_WEIGHTS.is_file():
        pytest.skip(f"no {MOBILENET_WEIGHTS}")
    model = keras.applications.MobileNet(alpha=0.25, weights=None)
    model.load_weights(MOBILENET_WEIGHTS)
    return model, "conv_pw_13_relu", keras.applications.mobilenet.preprocess_input


def quantised(build, images, parts):
    model, layer, preprocess = build()
    features = keras.Model(model.input, model.get_layer(layer).output)
    head = keras.Model(model.get_layer(layer).output, model.output)
    frozen = freeze(lambda images: [features(preprocess(images), training=False)], [layer], (224, 224))
    quantized = quantize_graph(
        frozen.whole(),
        INPUT_NAME,
        frozen.outputs,
        images,
        crops=parts,
        classify=lambda features: head.predict(features, verbose=0),
    )
    return quantized, frozen, head


def test_a_network_that_changes_its_mind_is_refused():
    with pytest.raises(QuantizationError, match=r"same top class for 97% of crops, received 0\.99.*: \S*conv_dw_1"):
        quantised(mobilenet, crops(CALIBRATION, 64, 0), crops(CALIBRATION, 200, 2))


@pytest.mark.slow
def test_features_and_classes_of_unseen_photos(tmp_path):
    for path in PHOTOS.iterdir():
        if path.suffix in (".png", ".jpg", ".gif") and path.name not in HELD_OUT:
            shutil.copy(path, tmp_path)
    photos = read_photos(tmp_path, (224, 224), count=64, interpolation="bicubic")
    quantized, frozen, head = quantised(efficientnet_lite0, photos.images, crops(HELD_OUT, 200, 2))
    report = quantized.report
    assert report.crops == 200
    assert report.same_class >= 0.97

    parts = np.split(crops(HELD_OUT, 200, 1), 20)
    expected, received = (
        run_batches(graph_def, INPUT_NAME, list(frozen.outputs.values()), parts)[0]
        for graph_def in (frozen.whole(), quantized.graph_def)
    )
    found = cosines(expected, received)
    expected_classes, received_classes = (head.predict(part, verbose=0).argmax(-1) for part in (expected, received))
    same = (expected_classes == received_classes).mean()
    floats = sum(layer.precision == "float32" for layer in report.layers)
    print(f"{report.method}, {floats} of {len(report.layers)} layers in float32")
    print(f"cosine {found.mean():.4f}, lowest {found.min():.4f}; same class {same:.1%} of 200")
    assert found.mean() >= 0.99
    # Other crops of the same photos: the share of two hundred is uncertain by one in a hundred.
    assert same >= 0.96
