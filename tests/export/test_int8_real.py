"""Closeness with real weights, on crops of photos that calibration has not seen."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
from featserve_export._efficientnet_lite import EfficientNetLite0, preprocess_input
from featserve_export._frozen import INPUT_NAME, freeze
from featserve_export.quantize import computes_eight_bits, quantize_graph
from featserve_export.quantize._quantize import _run as run_batches
from featserve_export.quantize._sensitivity import cosines
from PIL import Image

pytestmark = pytest.mark.skipif(not computes_eight_bits(), reason="this CPU has no VNNI")
HELD_OUT = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png")
CALIBRATION = (
    *("brick.png", "clock_motion.png", "coins.png", "color.png", "grass.png", "gravel.png", "hubble_deep_field.jpg"),
    *("ihc.png", "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg"),
)
PHOTOS = Path(skimage.data.__file__).parent
KERAS_HOME = Path(os.environ.get("KERAS_HOME", Path(__file__).parents[3] / "shared" / "keras-home"))
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


# The narrow MobileNet decides by little: photos unlike those of calibration keep fewer of its classes.
@pytest.mark.parametrize(
    ("build", "same_class"),
    [(mobilenet, 0.94), pytest.param(efficientnet_lite0, 0.97, marks=pytest.mark.slow)],
    ids=["mobilenet", "efficientnet_lite0"],
)
def test_features_and_classes_of_unseen_photos(build, same_class):
    model, layer, preprocess = build()
    features = keras.Model(model.input, model.get_layer(layer).output)
    frozen = freeze(features, [layer], preprocess, (224, 224))
    head = keras.Model(model.get_layer(layer).output, model.output)
    quantized = quantize_graph(
        frozen.graph_def,
        INPUT_NAME,
        frozen.outputs,
        crops(CALIBRATION, 64, 0),
        classify=lambda features: head.predict(features, verbose=0),
    )
    report = quantized.report
    assert report.crops == 200
    assert report.same_class >= 0.97

    held_out = np.split(crops(HELD_OUT, 200, 1), 20)
    (received,) = run_batches(quantized.graph_def, INPUT_NAME, list(frozen.outputs.values()), held_out)
    expected = np.concatenate([features(preprocess(batch.copy())).numpy() for batch in held_out])
    found = cosines(expected, received)
    assert found.mean() >= 0.99

    expected_classes, received_classes = (head(part).numpy().reshape(200, -1) for part in (expected, received))
    same = expected_classes.argmax(1) == received_classes.argmax(1)
    ranked = np.sort(expected_classes, axis=1)
    decided = ranked[:, -1] - ranked[:, -2] >= 0.01
    floats = sum(layer.precision == "float32" for layer in report.layers)
    print(f"{model.name}: {report.method}, {floats} of {len(report.layers)} layers in float32")
    print(f"cosine {found.mean():.4f}, lowest {found.min():.4f}; same class {same.mean():.1%} of 200", end="")
    print(f", {same[decided].mean():.1%} of the {decided.sum()} where the class leads by a point")
    assert same[decided].mean() >= same_class
